"""What a run was asked to do: the command line's flags by name, checked as far as they can be without the kernel."""

from __future__ import annotations

from typing import NamedTuple


class Options(NamedTuple):
    check: bool = False
    pcap_filter: str = ""
    pcap_typed: str = ""  # the part typed by the user, without the flags' primitives
    pcap_primitives: tuple[str, ...] = ()
    backend: str | None = None
    kernel_btf: str | None = None
    kmods: tuple[str, ...] = ()
    all_kmods: bool = False
    filter_func: str | None = None
    filter_netns: str | None = None
    filter_ifname: str | None = None
    filter_mark: int = 0
    filter_mark_mask: int = 0
    filter_skb_expr: str | None = None
    filter_tunnel_pcap_l2: str = ""
    filter_tunnel_pcap_l3: str = ""
    filter_pid: int = 0
    filter_comm: str | None = None
    filter_drop_reason: tuple[str, ...] = ()
    filter_kprobe_batch: int = 10
    output_json: bool = False
    output_meta: bool = True
    output_tuple: bool = True
    output_caller: bool = False
    output_stack: bool = False
    output_skb_metadata: tuple[str, ...] = ()
    output_skb: bool = False
    output_skb_shared_info: bool = False
    output_payload: int = 0
    output_file: str | None = None
    output_file_max_size: int = 100
    output_file_max_age: int = 0
    output_file_max_backups: int = 0
    output_file_compress: bool = False
    output_limit_lines: int = 0
    output_skb_cb: bool = False
    output_tcp_flags: bool = False
    output_tunnel: bool = False
    output_netns_names: bool = False
    netns_names_max_length: int = 16
    timestamp: str = "none"
    color: str = "auto"
    ready_file: str | None = None
    ring_buffer_size: int | None = None
    strict: bool = False
    debug: bool = False
