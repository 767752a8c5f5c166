package intake

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// maxNames is the most of a hosts file that is read, in bytes.
const maxNames = 64 << 20

// Names are those of an administrator's hosts file: what a sender's records without
// node= are stored under, instead of its address. They do not change.
type Names struct{ byAddr map[netip.Addr]string }

// Of is an address's name, "" when it has none.
func (n *Names) Of(a netip.Addr) string { return n.byAddr[event.SenderAddr(a)] }

// ReadNames reads a hosts file, which only its owner and root may be able to change. It
// is nil for no file. Errors name file and line.
func ReadNames(path string) (*Names, error) {
	if path == "" {
		return nil, nil
	}
	text, err := fsys.ReadTrusted(path, maxNames)
	if err != nil {
		return nil, fmt.Errorf("hosts_file: %w", err)
	}
	return parseNames(path, string(text))
}

// parseNames reads lines of an address and names, of which the first counts; so
// does an address's first line, as for the resolver.
func parseNames(path, text string) (*Names, error) {
	n := &Names{byAddr: map[netip.Addr]string{}}
	var errs []error
	line := 0
	for l := range strings.Lines(text) {
		line++
		l, _, _ = strings.Cut(l, "#")
		words := strings.Fields(l)
		if len(words) == 0 {
			continue
		}
		bad := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("%s:%d: "+format, append([]any{path, line}, args...)...))
		}
		addr, err := netip.ParseAddr(words[0])
		switch {
		case err != nil:
			bad("%.80q is not an address", words[0])
			continue
		case len(words) == 1:
			bad("%s has no name", addr)
			continue
		case len(words[1]) > 255 || strings.ContainsFunc(words[1], func(r rune) bool { return r < ' ' || r == 0x7f }):
			bad("%.80q is not a name", words[1])
			continue
		}
		addr = event.SenderAddr(addr)
		if _, ok := n.byAddr[addr]; !ok {
			n.byAddr[addr] = words[1]
		}
	}
	return n, errors.Join(errs...)
}
