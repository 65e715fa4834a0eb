"""Filters as eBPF: pcap expressions, compiled by libpcap (`pcap`) and translated (`translate`), conditions on fields of
the skb (`expression`), and how they get into the object (`splice`).

Pure: needs no root and no kernel. Nothing is imported here, because a run needs these parts at different moments.
"""
