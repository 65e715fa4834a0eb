"""Packet filters: pcap expressions, compiled by libpcap (`pcap`), translated to eBPF (`translate`) and put into the
object (`splice`).

Pure: needs no root and no kernel. Nothing is imported here, because a run needs these parts at different moments.
"""
