"""The stages of a packet's way that people think in (IP out, netfilter, qdisc …), by the functions that it passes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import translate
from functools import lru_cache
from typing import NamedTuple

from pwru.record.packets import Step, drop_reason

DELIVERED, DROPPED, RELEASED, NETFILTER, PROGRAM = "delivered", "dropped", "released", "netfilter", "BPF program"
OTHER = "other"  # of functions that nobody has put into a stage, before the first that somebody has
_INTERNAL = ""

# The functions of each stage in Linux 5.10 to 7.2, without leading underscores and what the compiler appends. A name
# goes before a pattern, a long pattern before a short one. Functions of _INTERNAL are of whatever stage the skb is in:
# they say what is done to it, not where it is.
_TABLE = {
    "TCP send": """
        tcp_transmit_skb tcp_skb_entail skb_entail tcp_write_xmit tcp_push* tcp_event_new_data_sent tcp_retransmit_skb
        tcp_fragment* tso_fragment tcp_established_options tcp_syn* tcp_make_synack tcp_options_write tcp_rbtree_insert
        tcp_v*_send_check tcp_v*_send_synack tcp_rate_skb_sent tcp_update_skb_after_send tcp_connect* tcp_send_*
        tcp_mtu_probe tcp_skb_* tcp_remove_empty_skb skb_split tcp_stream_* tcp_init_tso* tcp_set_skb_tso* tcp_ecn_send*
        tcp_insert_write_queue* tcp_queue_skb tcp_mark_push skb_do_copy_data_nocache bpf_skops_*hdr_opt*
        tracepoint:tcp_retransmit*""",
    # What was kept until it is acknowledged.
    "TCP acknowledged": """
        tcp_ack_tstamp tcp_rate_skb_delivered tcp_rtx_queue* tcp_clean_rtx_queue tcp_shift* tcp_sacktag* tcp_mark_skb*
        tcp_match_skb* tcp_rack* skb_shift tcp_collapse_retrans tcp_timeout*""",
    "UDP send": """
        udp_send_skb udp_v6_send_skb udp*_hwcsum udp*push_pending_frames""",
    "raw socket": "raw*_rcv* raw*_send* raw_v*_input raw_probe*",
    "packet socket": "packet_* tpacket_* run_filter prb_*",
    "ICMP error": """
        icmp_send icmp6_send icmpv6_send icmp*_ndo_send icmp*_route_lookup ipv*_link_failure
        tracepoint:icmp_send""",
    "TCP reset": "tcp_v*_send_reset tcp_v*_send_response tcp_v*_send_ack tracepoint:tcp_send_reset*",
    "IP out": """
        ip*_local_out* ip*_output ip*_finish_output* ip*_send_skb ip_queue_xmit ip6_xmit inet6_csk_xmit
        ip*push_pending_frames ip_send_unicast_reply ip_build_and_send_pkt ip*_make_skb ip*_append_data lwtunnel_*
        ip_options_build""",
    "IP fragmentation": """
        ip*_fragment ip_do_fragment ip*frag*_init ip*frag*_next ip*frag*_prepare ip*_copy_metadata
        ip6_find_1stfragopt""",
    "IP forward": "ip*_forward ip*_forward_* ipmr_* ip6mr_* ip*_mr_* ip_exceeds_mtu",
    "IP reassembly": "ip_defrag ip_frag_* inet_frag_* ipv6_frag_* ip6_frag_queue ip_check_defrag",
    "IP in": """
        ip*_rcv ip_rcv_* ip6_rcv_* ip*_list_rcv* ip*_sublist_rcv* ip_local_deliver* ip6_input* ip6_mc_input
        ip*_protocol_deliver_rcu *_early_demux raw*_local_deliver ip_call_ra_chain ipv6_rthdr_rcv
        ipv6_destopt_rcv ipv6_parse_hopopts ip6_parse_tlv""",
    "routing": """
        ip_route_* ip6_route_* ip6_pol_route* fib_* fib4_* fib6_* rt6_multipath* ip*_multipath*
        ip_mc_validate_source ip_mkroute_input vrf_* l3mdev_*""",
    "neighbour": "neigh_* arp_error_report arp_solicit ndisc_* tracepoint:neigh_*",
    "ARP": "arp_*",
    NETFILTER: """
        nf_* nft_* ipt_* ip6t_* xt_* *t_do_table ip*table_* ipv*_conntrack_* ipv*_get_l4proto l4proto_manip_pkt
        br_nf_* br_validate_ipv* ip_sabotage_in tcp_new tcp_options tcp_in_window *_ip_postroute *_ipv*_postroute
        *_ip_output *_ip_forward synproxy_* selinux_ip*""",
    "tc": """
        tcf_* tcx_* tc_run sch_handle_* cls_* *_classify skb_do_redirect bpf_redirect* bpf_clone_redirect""",
    "XDP": "xdp_* *_xdp *_xdp_* bpf_prog_run_generic_xdp",
    "qdisc": """
        dev_queue_xmit* netdev_pick_tx netdev_core_pick_tx validate_xmit_* sch_direct_xmit qdisc_* dev_qdisc_* *_enqueue
        *_dequeue *_peek pfifo_* dequeue_skb try_bulk_dequeue* dev_requeue_skb tracepoint:net_dev_queue
        tracepoint:qdisc_*""",
    "GSO": "skb_gso_segment skb_mac_gso_segment *_gso_segment *_ufo_fragment skb_segment* skb_eth_gso_segment",
    "driver": """
        dev_hard_start_xmit xmit_one dev_direct_xmit *_start_xmit *_xmit_frame*
        tracepoint:net_dev_start_xmit tracepoint:net_dev_xmit dummy_xmit ifb_xmit virtnet_* e1000* igb* ixgbe* i40e*
        ice_* mlx4* mlx5* bnxt* ena_* vmxnet3* netvsc* xennet* free_old_xmit*""",
    "veth": "veth_* dev_forward_skb*",
    "loopback": "loopback_*",
    "bridge": "br_* nbp_* ebt_*",
    "tunnel": """
        vxlan_* geneve_* gre_* gretap_* erspan_* ipgre_* ipip* sit_* fou_* gue_* ip_tunnel_* ip_md_tunnel* iptunnel_*
        ip6_tnl* ip6_tunnel* ip4ip6* ip6ip6* udp_tunnel* udp_encap* l2tp_* gtp_* bareudp_* wg_* macsec_* tunnel4_*
        tunnel6_* tunnel64_* encap_bypass_if_local skb_tunnel_check_pmtu""",
    "VLAN": "vlan_* skb_vlan_*",
    "bond": "bond_* team_*",
    "macvlan": "macvlan_* ipvlan_* macvtap_*",
    "Open vSwitch": "ovs_*",
    "tun/tap": "tun_* tap_*",
    "IPsec": "xfrm* esp_* esp4_* esp6_* ah_* ah4_* ah6_* ipcomp*",
    "softirq queue": "netif_rx* enqueue_to_backlog tracepoint:netif_rx*",
    "receive": """
        netif_receive_skb* skb_defer_rx_timestamp deliver_skb tracepoint:netif_receive_skb*""",
    "GRO": """
        napi_gro_* dev_gro_receive *_gro_receive* *_gro_complete* gro_* napi_skb_finish napi_frags* skb_gro_*
        napi_reuse_skb tracepoint:napi_gro_*""",
    "TCP receive": """
        tcp_v*_rcv tcp_v*_do_rcv tcp_v*_fill_cb tcp_v*_conn_request tcp_v*_init_* tcp_v*_route_req tcp_v*_syn_recv_sock
        tcp_v*_inbound_* tcp_v*_cookie_check tcp_rcv_* tcp_data_queue tcp_ack tcp_filter tcp_validate_incoming tcp_urg
        tcp_try_rmem_schedule tcp_try_fastopen tcp_inbound_* tcp_check_req tcp_child_process
        tcp_conn_request tcp_create_openreq_child tcp_finish_connect tcp_init_transfer tcp_parse_* tcp_reset tcp_fin
        tcp_send_dupack tcp_oow_* tcp_timewait_* tcp_openreq_init* tcp_checksum_complete tcp_drop* tcp_process_*
        tcp_get_cookie_sock tcp_ecn_* tcp_accecn_* tcp_ao_* tcp_md5_* tcp_fastopen_* tcp_prune_* tcp_dsack_*
        tcp_conn_* tcp_ts_* tcp_store_ts_recent tcp_replace_ts_recent cookie_v*_check mptcp_* inet_csk_*
        inet*_lookup_listener inet*_lhash2_lookup inet_reqsk_* tracepoint:tcp_*""",
    "UDP receive": """
        udp_rcv udpv6_rcv udp*_lib_rcv udp*_unicast_rcv_skb udp*_queue_rcv_* udp*_mcast_deliver udp*_csum_init
        udplite_rcv""",
    "ICMP receive": """
        icmp_rcv icmpv6_rcv icmp_echo icmp_reply icmp_unreach icmp_redirect icmp_timestamp icmp_discard icmp_build_probe
        icmp_socket_deliver icmp_tag_validation icmpv6_echo_reply icmpv6_notify icmpv6_err* ping_* raw*_icmp_error
        udp*_err tcp_v*_err icmp_glue_bits icmpv6_getfrag seg6_icmp_srh igmp_* mld_*""",
    "socket queue": """
        udp_enqueue_schedule_skb tcp_queue_rcv tcp_add_backlog sk_add_backlog tcp_ofo_queue tcp_data_queue_ofo
        tcp_ooo_* tcp_try_coalesce tcp_event_data_recv tcp_data_ecn_check tcp_grow_window tcp_measure_rcv_mss
        sock_queue_rcv_skb* sk_psock_* unix_*""",
    DELIVERED: """
        skb_datagram_iter skb_copy_datagram_* skb_copy_and_csum_datagram_msg skb_consume_udp skb_free_datagram*
        sock_recv_* tcp_eat_recv_skb skb_attempt_defer_free tracepoint:skb_copy_datagram_iovec""",
    "netlink": "netlink_* nlmsg_*",
    "vsock": "virtio_transport_* vsock_* vhost_*",
    RELEASED: """
        kfree_skb* kfree_skbmem free_skb* consume_skb consume_stateless_skb napi_consume_skb napi_kfree_skb
        napi_skb_free_* napi_skb_cache_* skb_release_* skb_free_head sk_skb_reason_drop dev_kfree_skb* skb_queue_purge*
        skb_rbtree_purge tracepoint:consume_skb tracepoint:kfree_skb""",
    _INTERNAL: """
        skb_* pskb_* copy_skb_header eth_header* eth_type_trans eth_get_headlen sock_wfree sock_rfree sock_efree
        sock_edemux sock_ofree tcp_wfree ip_options_* sk_filter_trim_cap security_* apparmor_* selinux_* smack_*
        bpf_lsm_* tomoyo_* landlock_* netif_skb_features passthru_features_check inet_proto_csum_* inet_gso_*
        ipv4_pktinfo_prepare ipv6_skip_exthdr ipv6_find_* ipv6_opt_accepted ipv6_gso_pull_exthdrs
        inet*_lookup_reuseport inet*_sk_rx_dst_set udp*_set_csum seg6_get_srh xfrm_decode_session decode_session*
        bpf_skops_* cgroup_bpf_* bpf_skb_* flow_dissect* net_timestamp* trace_*""",
}

# Which hook of netfilter it is, by the function before.
_HOOKS = {
    "OUTPUT": "ip*_local_out* raw*_send* ip6_xmit",
    "POSTROUTING": "ip*_output ip6_finish_output* ip_build_and_send_pkt",
    "PREROUTING": "ip_rcv* ipv6_rcv ip6_rcv* ip*_list_rcv* ip*_sublist_rcv*",
    "INPUT": "ip_local_deliver ip6_input ip_defrag inet_frag_*",
    "FORWARD": "ip*_forward",
    "BRIDGE": "br_*",
    "ARP": "arp_*",
    "INGRESS": "netif_receive_skb*",
    "EGRESS": "dev_queue_xmit*",
}
# Stages that a stage includes: RELEASED, say, is what whoever reads a packet does with it in the end.
_INCLUDES = {
    DELIVERED: {RELEASED},
    "ICMP error": {"routing"},
}
# A BPF program with its kind: from_container(tc).
_PROGRAM = re.compile(r"[^:]+\(([a-z][a-z0-9_/ ]*)\)")
# What the compiler, and the module of a function, append to its name.
_APPENDED = re.compile(r"(\.\w+)*(\[\w+\])?$")

STAGES = (*filter(None, _TABLE), PROGRAM, DROPPED, OTHER)


class Passage(NamedTuple):
    """The stay of an skb in a stage: from its first step there until the first in the next stage, or its last.

    `detail`: which hook of netfilter, the kind of a BPF program, the reason of a drop.
    """

    stage: str
    detail: str
    ns: int
    steps: Sequence[Step]


class _Names:
    """Finds in which row of a table a function is."""

    def __init__(self, table: dict[str, str]) -> None:
        rows = [(word, stage) for stage, words in table.items() for word in words.split()]
        self._names = {word: stage for word, stage in rows if "*" not in word}
        patterns = sorted((row for row in rows if "*" in row[0]), key=lambda row: -len(row[0]))
        self._patterns = [(re.compile(translate(word)), stage) for word, stage in patterns]

    def find(self, name: str) -> str | None:
        stage = self._names.get(name)
        if stage is None:
            stage = next((stage for pattern, stage in self._patterns if pattern.match(name)), None)
        return stage


_stages, _hooks = _Names(_TABLE), _Names(_HOOKS)


@lru_cache(1 << 12)
def stage_of(function: str) -> str | None:
    """Return the stage of a function, named as it is printed; "" if it is of whatever stage, None if nobody knows."""
    if _PROGRAM.fullmatch(function):
        return PROGRAM
    return _stages.find(_bare(function))


def _bare(function: str) -> str:
    return _APPENDED.sub("", function.partition("(")[0].rstrip()).lstrip("_")


def passages(steps: Sequence[Step]) -> list[Passage]:
    """Return the stages of an skb, whose steps these are."""
    starts: list[tuple[str, str, int]] = []
    for number in range(len(steps)):
        stage, detail = _stage(steps, number, starts[-1][:2] if starts else ("", ""))
        if not starts or (stage, detail) != starts[-1][:2]:
            starts.append((stage, detail, number))
    if len(starts) > 1 and starts[0][0] == OTHER:  # what is done first belongs to what follows
        starts[:2] = [(*starts[1][:2], 0)]
    ends = [start for *_, start in starts[1:]] + [len(steps)] * bool(steps)
    return [
        Passage(stage, detail, max(steps[min(end, len(steps) - 1)].time - steps[start].time, 0), steps[start:end])
        for (stage, detail, start), end in zip(starts, ends, strict=True)
    ]


def _stage(steps: Sequence[Step], number: int, before: tuple[str, str]) -> tuple[str, str]:
    """Return the stage of a step, which may be the one `before`, and the detail."""
    function = steps[number].function
    if before[0] == DROPPED:  # what releases it
        return before
    if function.drops:
        return DROPPED, drop_reason(function)
    stage = stage_of(function.name)
    if stage == PROGRAM and (kind := _PROGRAM.fullmatch(function.name)):
        return stage, kind[1]
    if stage == NETFILTER:
        return (stage, _hook(steps, number)) if before[0] != NETFILTER or "hook" in function.name else before
    if not stage or stage in _INCLUDES.get(before[0], ()):
        return before if before[0] else (OTHER, "")
    return stage, ""


def _hook(steps: Sequence[Step], number: int) -> str:
    """Return where netfilter is called: the function says it that was there before, and is not netfilter's."""
    for step in reversed(steps[:number]):
        hook = _hooks.find(_bare(step.function.name))
        if hook or stage_of(step.function.name) not in (_INTERNAL, NETFILTER):
            return hook or ""
    return ""
