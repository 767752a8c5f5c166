package store

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/auditfleet/auditfleet/pkg/query"
)

// ErrNoHost is returned for a host that is not known.
var ErrNoHost = errors.New("no such host is known")

// MaxName is the longest name of a host told apart from others; DNS has no longer one.
const MaxName = 255

// Change is what an administrator wants changed in the list of known hosts. It changes
// no stored event.
type Change struct {
	// Forget names hosts to be taken off the list, by name, by address or by a pattern
	// (query.Like). An address stands for the host of that name and for every host whose
	// only address it is. A peer chooses its own name: a word that is the name of a host
	// is that host only, and no pattern.
	Forget []string
	// Also maps an address to the host that its records count as, too: what was
	// received from the address is then found under both names. "" undoes that.
	Also map[netip.Addr]string
}

// Resolve applies the change to the hosts that are known. It returns the names to be
// forgotten, sorted, and the hosts whose Also is set, as they are to be stored; hosts
// itself stays as it is. Errors: ErrNoHost for a word of Forget that names none.
func (c *Change) Resolve(hosts []Host) (forget []string, changed []Host, err error) {
	for _, word := range c.Forget {
		addr, aerr := netip.ParseAddr(word)
		pattern := query.IsPattern(word) && !slices.ContainsFunc(hosts, func(h Host) bool { return h.Name == word })
		n := 0
		for i := range hosts {
			h := &hosts[i]
			if h.Name == word || pattern && query.Like(word, h.Name) || aerr == nil && len(h.Addrs) == 1 && h.Addrs[0] == addr.Unmap() {
				forget = append(forget, h.Name)
				n++
			}
		}
		switch {
		case n > 0:
		case pattern:
			return nil, nil, fmt.Errorf("%w: none is like %.80q", ErrNoHost, word)
		default:
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
