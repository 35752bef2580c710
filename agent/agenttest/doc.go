// Package agenttest makes hosts out of network namespaces, joins them by a
// switch namespace, and runs the real programs in them, so that a test drives
// weft as its users do: by agentctl, ping and a resolver. It does not use the
// product's own netlink code: it drives the kernel with ip(8), bridge(8) and
// nft(8), and so does not share its mistakes.
//
// A Lab is
//
//	 sandbox   sandbox        sandbox
//	    │         │              │           what attach makes
//	┌───┴─────────┴──┐  ┌────────┴───────┐
//	│ host h1        │  │ host h2        │   one agentd in each
//	│ 192.0.2.1/24   │  │ 192.0.2.2/24   │
//	└───────┬────────┘  └───────┬────────┘
//	        └──── switch ───────┤
//	                     192.0.2.254          "the internet": a default gateway
//	                     198.51.100.1         and an address behind it
//
// Every name of a lab begins with its id, which no other lab has: labs run side
// by side, in one test binary or in many. A lab removes everything when its
// test ends, and what the labs of killed tests left when it starts.
package agenttest
