#!/bin/sh
# Makes the frozen samples beside it anew.  make.sh CLANG LLVM_OBJCOPY KALLSYMS, the last one of a 6.1 kernel with veth.
set -eu
cd "$(dirname "$0")"
"$1" -target bpf -O2 -g -ffile-compilation-dir=. -c sample.bpf.c -o sample.elf
"$2" --remove-section '.debug*' sample.elf
grep -E \
	-e ' A (fixed_percpu_data|steal_time|__per_cpu_end)$' \
	-e ' [tTwW] (_stext|_text|ip_rcv|ip_rcv_finish|ip_rcv_core|dst_discard|kfree_skb_reason|__tcp_v4_send_check)$' \
	-e ' [tTwW] (add_grec|tcp_fastopen_add_skb(\.part\.0)?|skb_headers_offset_update\.part\.0|_etext)$' \
	-e ' t (inet_gso_segment|ip6_route_redirect\.constprop\.0\.isra\.0|ip_multipath_l3_keys\.constprop\.0)$' \
	-e ' [dDbBrR] (jiffies|init_net)$' -e ' [tT] (_sinittext|ip_init|_einittext)$' \
	-e ' . (veth_xmit|veth_rq_stats_desc|veth_poll|virtio_dev_match|stp_pdu_rcv|br_handle_frame)	' "$3" > kallsyms
