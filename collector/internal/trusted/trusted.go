// Package trusted reads which names senders in clear text may use from which addresses:
// the file that trusted_senders names. Such a sender proves nothing, so its address is
// all there is to go by. The collector's server and head may import it.
package trusted

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// maxFile is the most of the file that is read, in bytes.
const maxFile = 16 << 20

// Senders says which names may come from which addresses. It does not change. A nil one
// trusts everybody. It is asked for each record of senders that may not be trusted, so an answer takes as
// many steps as there are lengths of networks, and not lines.
type Senders struct {
	networks map[netip.Prefix]*names
	bits     []int // the lengths of networks, of IPv4 and IPv6 together, the longest first
}

// names are those of a network, as event.FoldName has them.
type names struct {
	exact    map[string]struct{}
	patterns []string // see query.Like
}

type line struct {
	names    []string // or patterns
	networks []netip.Prefix
}

// Read reads a file that only its owner and root may be able to change; "" is none. Each
// line is names with commas between them, * and ? standing for any text and any character,
// and then addresses or networks. Errors name file and line.
func Read(path string) (*Senders, error) {
	if path == "" {
		return nil, nil
	}
	text, err := fsys.ReadTrusted(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("trusted_senders: %w", err)
	}
	return parse(path, string(text))
}

func parse(path, text string) (*Senders, error) {
	s := &Senders{networks: map[netip.Prefix]*names{}}
	var errs []error
	n := 0
	text = strings.TrimPrefix(text, "\ufeff") // some editors begin a file so
	for l := range strings.Lines(text) {
		n++
		l, _, _ = strings.Cut(l, "#")
		words := strings.FieldsFunc(l, func(r rune) bool { return r == ' ' || r == '\t' || r == '\r' || r == '\n' })
		if len(words) == 0 {
			continue
		}
		one, err := parseLine(words)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", path, n, err))
			continue
		}
		s.add(&one)
	}
	slices.SortFunc(s.bits, func(a, b int) int { return b - a })
	if len(errs) == 0 && len(s.networks) == 0 {
		return nil, fmt.Errorf("%s: it has no line NAMES ADDRESSES: nobody could send; leave trusted_senders out to trust everybody", path)
	}
	return s, errors.Join(errs...)
}

func parseLine(words []string) (l line, err error) {
	if len(words) == 1 {
		return l, fmt.Errorf("%.80q has no address: write NAME[,NAME…] ADDRESS[/BITS] …", words[0])
	}
	for name := range strings.SplitSeq(words[0], ",") {
		switch {
		case name == "" || len(name) > 255:
			return l, fmt.Errorf("%.80q: a name is missing or too long", words[0])
		case strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsGraphic(r) || r == utf8.RuneError }):
			return l, fmt.Errorf("%.80q: a name with characters that can't be seen: type it anew, and save the file as UTF-8", words[0])
		}
		l.names = append(l.names, event.FoldName(name))
	}
	for text := range strings.SplitSeq(strings.Join(words[1:], ","), ",") {
		p, err := Network(text)
		if err != nil {
			return l, err
		}
		l.networks = append(l.networks, p)
	}
	return l, nil
}

// Network reads an address or ADDRESS/BITS.
func Network(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		a = event.SenderAddr(a)
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return p, fmt.Errorf("%.80q is neither an address nor a network such as 192.0.2.0/24", text)
	case p.Addr().Is4In6() && p.Bits() >= 96:
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if p != p.Masked() {
		return p, fmt.Errorf("%s has bits behind its %d: did you mean %s?", text, p.Bits(), p.Masked())
	}
	return p, nil
}

// add has the line's names allowed from its networks.
func (s *Senders) add(l *line) {
	for _, p := range l.networks {
		n := s.networks[p]
		if n == nil {
			n = &names{exact: map[string]struct{}{}}
			s.networks[p] = n
			if !slices.Contains(s.bits, p.Bits()) {
				s.bits = append(s.bits, p.Bits())
			}
		}
		for _, name := range l.names {
			if query.IsPattern(name) {
				n.patterns = append(n.patterns, name)
			} else {
				n.exact[name] = struct{}{}
			}
		}
	}
}

// Allows says whether records that claim a name may come from an address.
func (s *Senders) Allows(name string, a netip.Addr) bool {
	if s == nil {
		return true
	}
	name = event.FoldName(name)
	return s.of(a, func(n *names) bool {
		_, ok := n.exact[name]
		return ok || slices.ContainsFunc(n.patterns, func(p string) bool { return query.Like(p, name) })
	})
}

// Knows says whether the file has the address, under whatever name.
func (s *Senders) Knows(a netip.Addr) bool {
	return s == nil || s.of(a, func(*names) bool { return true })
}

// of says whether ok is true for a network that the address lies in.
func (s *Senders) of(a netip.Addr, ok func(*names) bool) bool {
	a = event.SenderAddr(a)
	for _, bits := range s.bits {
		p, err := a.Prefix(bits)
		if err != nil {
			continue // longer than the address
		}
		if n := s.networks[p]; n != nil && ok(n) {
			return true
		}
	}
	return false
}

// In says whether an address is in one of the networks.
func In(networks []netip.Prefix, a netip.Addr) bool {
	a = event.SenderAddr(a)
	for _, p := range networks {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
