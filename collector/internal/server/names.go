package server

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// maxNames is the most of a hosts file that is read, in bytes.
const maxNames = 64 << 20

// names are those of a hosts file: what a sender's records without node= are
// stored under, instead of its address.
type names struct{ byAddr map[netip.Addr]string }

// of is an address's name, "" when it has none.
func (n *names) of(a netip.Addr) string { return n.byAddr[a.Unmap().WithZone("")] }

// loadNames reads the hosts file and has it used from now on.
func (s *Server) loadNames(path string) error {
	if path == "" {
		s.names.Store(nil)
		return nil
	}
	text, err := readNames(path)
	if err != nil {
		return fmt.Errorf("hosts_file: %w", err)
	}
	n, err := parseNames(path, text)
	if err != nil {
		return err
	}
	s.names.Store(n)
	return nil
}

func readNames(path string) (string, error) {
	text, err := fsys.ReadTrusted(path, maxNames)
	return string(text), err
}

// parseNames reads lines of an address and names, of which the first counts; so
// does an address's first line, as for the resolver.
func parseNames(path, text string) (*names, error) {
	n := &names{byAddr: map[netip.Addr]string{}}
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
		addr = addr.Unmap().WithZone("")
		if _, ok := n.byAddr[addr]; !ok {
			n.byAddr[addr] = words[1]
		}
	}
	return n, errors.Join(errs...)
}
