"""Packet filters: pcap-filter(7) to classic BPF to eBPF."""
