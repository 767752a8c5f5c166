package cli

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/event"
)

// networks reads the values of --from, each an address or a network, several with
// commas between them.
func networks(values []string) (out []netip.Prefix, err error) {
	for _, v := range values {
		for one := range strings.SplitSeq(v, ",") {
			if p, err := netip.ParsePrefix(one); err == nil {
				out = append(out, p.Masked())
				continue
			}
			addr, err := netip.ParseAddr(one)
			if err != nil {
				return nil, fmt.Errorf("--from must be an address or a network such as 192.0.2.0/24, was %.80q", one)
			}
			addr = event.SenderAddr(addr)
			out = append(out, netip.PrefixFrom(addr, addr.BitLen()))
		}
	}
	return out, nil
}

// errFromFile is why --from does not go with -if.
const errFromFile = "--from: a log does not say who sent its records, a collector's store does"
