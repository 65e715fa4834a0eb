// Types and functions for test_btf.py, compiled by make.sh.

enum skb_drop_reason { SKB_NOT_DROPPED_YET, SKB_DROP_REASON_NOT_SPECIFIED = 2 };

struct sk_buff {
	unsigned int len;
};

typedef const struct sk_buff *const packet;

struct event {
	unsigned long long skb;
	unsigned long long addr;
	int cpu;
	char comm[16];
	union {
		struct {
			unsigned short low;
			unsigned short high;
		};
		unsigned int all;
	};
} event;

int plain(struct sk_buff *skb)
{
	return skb->len;
}

int constant(int n, const volatile struct sk_buff *skb)
{
	return skb->len + n;
}

int twice(struct sk_buff **pskb, struct sk_buff *other, enum skb_drop_reason reason)
{
	return (*pskb)->len + other->len + reason;
}

int by_typedef(int a, int b, packet skb)
{
	return skb->len + a + b;
}

int no_packet(struct event *e, unsigned int len)
{
	return e->cpu + len;
}
