package rules

import "strings"

// word is an option's value and where it stands.
type word struct {
	s   string
	arg int // index in the arguments
	off int // byte in that argument
}

// scanner reads options as getopt_long(3) does: a value may be attached or separate,
// short options may be clustered, long options may be abbreviated, and words that are not
// options are moved to the end.
type scanner struct {
	args   []string
	next   int // index of the argument to read next
	at     int // byte in args[next] of the next short option; 0 between arguments
	params []word
}

// given is one option read. name is "-a" or "--signal"; problem is set when it
// is none of ours or lacks its value.
type given struct {
	name    string
	word    word // the value, or the option's own place without one
	valued  bool
	problem string
}

func (s *scanner) scan() (given, bool) {
	for s.at == 0 {
		if s.next >= len(s.args) {
			return given{}, false
		}
		a := s.args[s.next]
		switch {
		case a == "--":
			s.next++
			for ; s.next < len(s.args); s.next++ {
				s.params = append(s.params, word{s.args[s.next], s.next, 0})
			}
			return given{}, false
		case len(a) < 2 || a[0] != '-':
			s.params = append(s.params, word{a, s.next, 0})
			s.next++
		case strings.HasPrefix(a, "--"):
			return s.long(a), true
		default:
			s.at = 1
		}
	}
	return s.short(), true
}

func (s *scanner) short() given {
	a, off := s.args[s.next], s.at
	o := given{name: "-" + a[off:off+1], word: word{a[off : off+1], s.next, off}}
	s.at++
	if s.at == len(a) {
		s.next, s.at = s.next+1, 0
	}
	known := options.Find(o.name)
	switch {
	case known == nil:
		o.problem = "unknown"
	case known.Value != "":
		o.valued = true
		if s.at != 0 {
			o.word = word{a[s.at:], s.next, s.at}
			s.next, s.at = s.next+1, 0
			return o
		}
		s.value(&o)
	}
	return o
}

func (s *scanner) long(a string) given {
	name, value, glued := strings.Cut(a[2:], "=")
	o := given{name: "--" + name, word: word{a, s.next, 0}}
	s.next++
	found := beginning("--" + name)
	switch {
	case len(found) == 0:
		o.problem = "unknown"
	case len(found) > 1:
		o.problem = "ambiguous"
	case glued && found[0].Value == "":
		o.problem = "valueless"
	default:
		o.name, o.valued = long(found[0]), found[0].Value != ""
		if glued {
			o.word = word{value, o.word.arg, len(a) - len(value)}
		} else if o.valued {
			s.value(&o)
		}
	}
	return o
}

// value takes the next argument, whatever it looks like.
func (s *scanner) value(o *given) {
	if s.next >= len(s.args) {
		o.problem = "missing"
		return
	}
	o.word = word{s.args[s.next], s.next, 0}
	s.next++
}
