"""What a wrong command line is answered with."""

from __future__ import annotations

import pytest

from pwru.cli.flags import FLAGS
from pwru.cli.options import parse

NUMBERS = ("N", "MB", "DAYS", "PID", "SIZE", "PORT", "PROTO", "MARK[/MASK]")


@pytest.mark.parametrize("flag", ["max-size=1", "max-age=0", "max-backups=1", "compress", "compress=false"])
def test_rotation_without_a_file(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_status:
        parse([f"--output-file-{flag}"])
    assert exit_status.value.code == 2
    name = flag.partition("=")[0]
    assert f"--output-file-{name} requires --output-file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output-file=f", "--output-file-max-size=0"], "--output-file-max-size: it must be 1 or more"),
        (["--output-file=f", "--output-file-max-age=-1"], "'-1' is not a number of 0 or more"),
        (["--output-file=f", "--output-file-max-backups=all"], "'all' is not a number of 0 or more"),
        (["--src-ip", "10.0.0"], "--src-ip: '10.0.0' is no address or network; 10.0.0.1 is one, or fd00::/8"),
        (
            ["--dst-ip", "10.0.0.1/8"],
            "--dst-ip: '10.0.0.1/8' is no address or network; did you mean 10.0.0.0/8?",
        ),
        (["--src-ip", "10.0.0.0/33"], "--src-ip: '10.0.0.0/33' is no address or network"),
        (["--src-ip", ""], "--src-ip: '' is no address or network"),
        (["--src-ip", "localhost"], "--src-ip: 'localhost' is no address or network"),
        (["--src-ip", "::1) or (tcp"], "--src-ip: '::1) or (tcp' is no address or network"),
        (["--src-ip", "fe80::1%eth0"], "'fe80::1%eth0' names an interface: a packet has none; see --filter-ifname"),
        (["--sport", "65536"], "--sport: '65536' is no port: a number up to 65535"),
        (["--dport", "http"], "--dport: 'http' is no port: a number up to 65535"),
        (["--dport=-1"], "--dport: '-1' is no port: a number up to 65535"),
        (["--dport=٨٠"], "is no port: a number up to 65535"),
        (["--proto", "256"], "--proto: '256' is no protocol: a number up to 255, or ah, arp,"),
        (["--proto", "tcpp"], "--proto: 'tcpp' is no protocol: a number up to 255, or ah, arp,"),
        (["--proto", "vlan"], "--proto: 'vlan' is no protocol"),
        (["--all-kprobes", "--filter-func", "ip_rcv"], "--filter-func: not allowed with argument --all-kprobes"),
        (["--all-kprobes=false"], "--all-kprobes=false: name the functions that are wanted with --filter-func"),
        (["--kmods", ""], "'' is not a list of names: a,b,c"),
        (["--kmods", "veth,,bridge"], "'veth,,bridge' is not a list of names: a,b,c"),
        (["--kmods", "../vmlinux"], "'../vmlinux' is not a list of names: a,b,c"),
        (["--frob"], "no such flag: --frob; pwru --help shows all flags"),
        (["-x"], "no such flag: -x; pwru --help shows all flags"),
        (["tcp", "--frob=1", "-x"], "no such flag: --frob; pwru"),
        (["--filter\x1b"], r"no such flag: --filter\x1b; pwru"),
        (["--filter-func"], "pwru: --filter-func: expected one argument; pwru --help shows all flags"),
        (["--backend", "magic"], "invalid choice: 'magic'"),
        (["--filter-mark", "0x100000000"], "'0x100000000' is not a number of 32 bits"),
        (["--filter-mark", "1/"], "'' is not a number of 32 bits"),
        (["--filter-mark", "0xa5/0xf0"], "'0xa5/0xf0' matches no packet: the mark has bits that the mask lacks"),
        (["--filter-mark", "1/1_0"], "'1_0' is not a number of 32 bits"),
        (["--filter-mark=-1"], "'-1' is not a number of 32 bits"),
        (["--output-limit-lines", "-5"], "'-5' is not a number of 0 or more"),
        (["--output-limit-lines", "many"], "'many' is not a number"),
        (["--filter-kprobe-batch", "0"], "pwru: --filter-kprobe-batch: it must be 1 or more"),
        (["--filter-kprobe-batch=-1"], "'-1' is not a number of 0 or more"),
        (
            ["--filter-drop-reason=any", "--backend=kprobe"],
            "--filter-drop-reason works only with --backend tracepoint; pwru --help",
        ),
        *(
            (["--filter-drop-reason=any", flag], f"--filter-drop-reason works only without {flag.partition('=')[0]};")
            for flag in (
                *("--filter-func=ip_rcv", "--kmods=veth", "--all-kmods"),
                *("--filter-trace-tc", "--filter-trace-xdp", "--follow"),
            )
        ),
        (
            ["--output-netns-names", "--output-meta=false"],
            "--output-netns-names names what --output-meta=false leaves out",
        ),
        *(
            ([flag, *more], f"{flag.partition('=')[0]} requires --filter-trace-xdp; pwru --help")
            for flag in ("--filter-xdp-expr=xdp->frame_sz", "--output-xdp-metadata=xdp->data")
            for more in ([], ["--filter-trace-tc"], ["--filter-trace-xdp=false"])
        ),
        (["--output-pcap=-", "-w-"], "pwru: --output-pcap - and -w - both write to standard output; pwru --help"),
        (["--output-pcap=-", "--print"], "pwru: --print and --output-pcap - both write to standard output; pwru"),
        (["--output-pcap=-", "--summary"], "pwru: --summary and --output-pcap - both write to standard output; pwru"),
        (["--output-pcap-all"], "pwru: --output-pcap-all requires --output-pcap; pwru --help"),
        (["--output-pcap=f", "--output-meta=false"], "pwru: --output-pcap requires --output-meta; pwru --help"),
        (["--output-packet-id"], "pwru: --output-packet-id requires --follow; pwru --help"),
        (["--follow=false", "--group"], "pwru: --group requires --follow; pwru --help"),
        (["--group=false", "--stages"], "pwru: --stages requires --group; pwru --help"),
        (["--follow=false", "--output-packet-id"], "pwru: --output-packet-id requires --follow; pwru --help"),
        (["--filter-track-skb=false", "--follow-packets=9"], "pwru: --follow-packets requires --follow; pwru --help"),
        (
            ["--follow=false", "--filter-track-skb-by-stackid"],
            "pwru: --filter-track-skb-by-stackid requires --follow; pwru --help",
        ),
        (
            ["--filter-non-skb-funcs=a", "--backend=tracepoint"],
            "pwru: --filter-non-skb-funcs works only with --backend kprobe-multi or kprobe; pwru --help",
        ),
        (
            ["--filter-track-bpf-helpers", "--filter-trace-tc=false"],
            "pwru: --filter-track-bpf-helpers requires --filter-trace-tc or --filter-trace-xdp; pwru --help",
        ),
        (
            ["--filter-trace-tc", "--filter-track-skb-by-stackid=false", "--filter-track-bpf-helpers"],
            "pwru: --filter-track-bpf-helpers requires --filter-track-skb-by-stackid; pwru --help",
        ),
        (["--output-bpfmap"], "pwru: --output-bpfmap requires --filter-track-bpf-helpers; pwru --help"),
        (["--filter-non-skb-funcs=a-b"], "--filter-non-skb-funcs: 'a-b' is not a list of functions: a,b,c"),
        (["--follow", "--follow-packets=0"], "--follow-packets: '0' is not a number of skbs (1 to 1048576)"),
        (["--follow", "--follow-packets=1048577"], "'1048577' is not a number of skbs (1 to 1048576)"),
        (["--output-json=maybe"], "'maybe' is neither true nor false"),
    ],
)
def test_wrong_command_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_status:
        parse(arguments)
    assert exit_status.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("pwru: ")
    assert message in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output-payload=0"], "'0' is not a number of bytes from 1 to 1024"),
        (["--output-payload", "1025"], "'1025' is not a number of bytes from 1 to 1024"),
        (["--output-skb-metadata", "skb->a,skb->b,skb->c,skb->d,skb->e"], "5 fields; up to 4 can be printed"),
        (["--output-skb-metadata", "skb->mark,"], "'skb->mark,' is not a list of fields: skb->mark,skb->dev->mtu"),
        (
            ["--output-skb-metadata=skb->mark", "--output-skb-metadata=skb->mark"],
            "a field is there twice: skb->mark, skb->mark",
        ),
        (["--output-skb-metadata=a,b,c", "--output-skb-metadata=d,e"], "5 fields; up to 4 can be printed"),
        (["--filter-trace-xdp", "--output-xdp-metadata=a,b,c,d,e"], "5 fields; up to 4 can be printed"),
        (["--filter-trace-xdp", "--output-xdp-metadata=a,a"], "a field is there twice: a, a"),
        (["--filter-pid", "4194305"], "'4194305' is not a PID (1 to 4194304)"),
        (["--filter-pid", "0"], "'0' is not a PID (1 to 4194304)"),
        (["--filter-pid", "ping:0"], "'ping:0' is not a PID (1 to 4194304)"),
        (["--filter-pid", "214:ping"], "'ping' is not a number of 0 or more"),
        (["--filter-drop-reason", "no socket"], "'no socket' is not a list of drop reasons: NO_SOCKET,QDISC,QDISC/3"),
        (["--netns-names-max-length", "256"], "256: it must be 10 or more, up to 255"),
        (["--output-file=f", "--output-file-max-age=36501"], "36501: it must be 36500 or less; 0 is for ever"),
    ],
)
def test_details_that_are_not_possible(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(arguments)
    assert f": {message}; pwru --help" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["1_0", "0b11", "0o17", " 7", "7 ", "+7", "\u0668", "0x", "0x1_0", "9" * 5000])
@pytest.mark.parametrize("flag", [flag.name for flag in FLAGS if flag.metavar in NUMBERS])
def test_numbers_of_python_that_are_none_here(flag: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse([f"{flag}={word}", "--output-file=f"])
    assert f"{word!r} is n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("--filter-fun", "--filter-func"),
        ("--filter-fun=x", "--filter-func"),
        ("-filter-func", "--filter-func"),
        ("--filter_func", "--filter-func"),
        ("--output-jsson", "--output-json"),
        ("--output-limit", "--output-limit-lines"),
        ("--all-kmod", "--all-kmods"),
        ("--port", "--sport, --dport or --report"),
        ("--debgu", "--debug"),
    ],
)
def test_a_misspelt_flag(word: str, near: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_status:
        parse(["tcp", word, "x"])
    assert exit_status.value.code == 2
    assert capsys.readouterr().err == f"pwru: no such flag: {word.partition('=')[0]}; did you mean {near}?\n"


@pytest.mark.parametrize("flag", ["--output-bpfmap", "--verbose", "--filter"])
def test_a_flag_that_is_like_none(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong guess is worse than none."""
    with pytest.raises(SystemExit):
        parse([flag])
    assert "did you mean" not in capsys.readouterr().err
