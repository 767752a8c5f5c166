package store

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// ErrNoHost is returned for a host that is not known.
var ErrNoHost = errors.New("no such host is known")

// MaxName is the longest name of a host told apart from others; DNS has no longer one.
const MaxName = 255

// Change is what an administrator wants changed about the hosts known.
type Change struct {
	// Forget are names of hosts, or addresses: an address is the host of that name
	// and all hosts that are known from there only. Their records stay.
	Forget []string
	// Also says of addresses whose host's records theirs are, too; "" takes it back.
	Also map[netip.Addr]string
}

// Of is the change as it concerns the hosts known: those to be forgotten, and those
// that change. ErrNoHost is returned for what is not there.
func (c *Change) Of(hosts []Host) (forget []string, changed []Host, err error) {
	for _, word := range c.Forget {
		addr, aerr := netip.ParseAddr(word)
		n := 0
		for i := range hosts {
			if h := &hosts[i]; h.Name == word || aerr == nil && len(h.Addrs) == 1 && h.Addrs[0] == addr.Unmap() {
				forget = append(forget, h.Name)
				n++
			}
		}
		if n == 0 {
			return nil, nil, fmt.Errorf("%w: %.80q", ErrNoHost, word)
		}
	}
	slices.Sort(forget)
	forget = slices.Compact(forget)
	for addr, name := range c.Also {
		h := Host{Name: addr.Unmap().String()}
		known := false
		for i := range hosts {
			if hosts[i].Name == h.Name {
				h, known = hosts[i], true
			}
		}
		if len(name) > MaxName {
			return nil, nil, fmt.Errorf("a host's name of %d bytes: %d is the most", len(name), MaxName)
		}
		if !known && name == "" {
			continue // nothing is taken back
		}
		h.Also = name
		changed = append(changed, h)
	}
	return forget, changed, nil
}
