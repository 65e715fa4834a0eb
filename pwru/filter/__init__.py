"""Filters as eBPF: pcap filters (`packet`), conditions on fields of the skb (`expression`), put to use by `splice`.

Pure: needs no root and no kernel. Nothing is imported here, because a run needs the parts at different moments.
"""
