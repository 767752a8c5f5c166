package pki

import (
	"fmt"
	"strings"
)

// Rules say by name who may do what. A list that is not empty alone decides who has its
// role. Where it is empty, certificates decide: one that names roles has these, one that
// names none may send.
type Rules struct {
	// Patterns of names, in which * stands for any characters, dots too, and ? for one.
	Senders, Readers, Admins []string
	// SPIFFEPrefix, such as spiffe://example.org/host/, is what stands before a host's
	// name in a SPIFFE ID. Other IDs are names as a whole.
	SPIFFEPrefix string
}

// clean checks the rules and returns them as they are compared: in lower case.
func (r Rules) clean() (Rules, error) {
	var err error
	lower := func(list []string) []string {
		out := make([]string, len(list))
		for i, p := range list {
			out[i] = strings.ToLower(strings.TrimSpace(p))
			if (out[i] == "" || len(p) > MaxName || strings.ContainsAny(out[i], " \t\n,")) && err == nil {
				err = fmt.Errorf("%.80q is no pattern of names: one is a name such as web1.example.com, or has * and ? in it", p)
			}
		}
		return out
	}
	r.Senders, r.Readers, r.Admins = lower(r.Senders), lower(r.Readers), lower(r.Admins)
	if p := r.SPIFFEPrefix; p != "" {
		rest, ok := strings.CutPrefix(p, "spiffe://")
		domain, _, slash := strings.Cut(rest, "/")
		if !ok || !slash || domain == "" || !strings.HasSuffix(p, "/") {
			return r, fmt.Errorf("%.80q is no prefix of SPIFFE IDs: one looks like spiffe://example.org/host/", p)
		}
		r.SPIFFEPrefix = "spiffe://" + strings.ToLower(domain) + rest[len(domain):]
	}
	return r, err
}

// rolesOf returns what a peer may do whose certificate names the roles given.
func (r Rules) rolesOf(name string, named Roles, names bool) Roles {
	if !names {
		named = Send
	}
	name = strings.ToLower(name)
	for _, rule := range []struct {
		role     Roles
		patterns []string
	}{{Send, r.Senders}, {Read, r.Readers}, {Admin, r.Admins}} {
		if len(rule.patterns) > 0 {
			named &^= rule.role
			if matchesAny(rule.patterns, name) {
				named |= rule.role
			}
		}
	}
	return named
}

func matchesAny(patterns []string, name string) bool {
	for _, p := range patterns {
		if matches(p, name) {
			return true
		}
	}
	return false
}

// matches reports whether name is what the pattern says. It takes at most the product of
// both lengths in steps, whoever wrote them.
func matches(pattern, name string) bool {
	p, n := 0, 0
	star, from := -1, 0 // the last * and where in name it ends for now
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, n
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == name[n]):
			p++
			n++
		case star >= 0:
			from++
			p, n = star+1, from
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
