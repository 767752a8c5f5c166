package rules

import "strings"

// word is an option's value and where it stands.
type word struct {
	s   string
	arg int // index in the arguments
	off int // byte in that argument
}

// shortOptions as in auditctl: a colon follows those that take a value.
const shortOptions = "hicslDvtC:e:f:r:b:a:A:d:S:F:m:R:w:W:k:p:q:"

type longOption struct {
	name  string
	value bool
}

var longOptions = [...]longOption{
	{"help", false}, {"loginuid-immutable", false}, {"backlog_wait_time", true}, {"reset-lost", false},
	{"reset_backlog_wait_time_actual", false}, {"signal", true},
}

// scanner reads options as getopt_long(3) does: values glued or apart, short
// options clustered, long ones abbreviated, and words that are no option taken
// to the end.
type scanner struct {
	args   []string
	next   int // index of the argument to read next
	at     int // byte in args[next] of the next short option; 0 between arguments
	params []word
}

// option is one option read. name is "-a" or "--signal"; problem is set when it
// is none of ours or lacks its value.
type option struct {
	name    string
	word    word // the value, or the option's own place without one
	valued  bool
	problem string
}

func (s *scanner) scan() (option, bool) {
	for s.at == 0 {
		if s.next >= len(s.args) {
			return option{}, false
		}
		a := s.args[s.next]
		switch {
		case a == "--":
			s.next++
			for ; s.next < len(s.args); s.next++ {
				s.params = append(s.params, word{s.args[s.next], s.next, 0})
			}
			return option{}, false
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

func (s *scanner) short() option {
	a, off := s.args[s.next], s.at
	o := option{name: "-" + a[off:off+1], word: word{a[off : off+1], s.next, off}}
	s.at++
	if s.at == len(a) {
		s.next, s.at = s.next+1, 0
	}
	i := strings.IndexByte(shortOptions, a[off])
	switch {
	case i < 0 || a[off] == ':':
		o.problem = "unknown"
	case i+1 < len(shortOptions) && shortOptions[i+1] == ':':
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

func (s *scanner) long(a string) option {
	name, value, glued := strings.Cut(a[2:], "=")
	o := option{name: "--" + name, word: word{a, s.next, 0}}
	s.next++
	var found []longOption
	for _, l := range longOptions {
		if l.name == name {
			found = []longOption{l}
			break
		}
		if strings.HasPrefix(l.name, name) {
			found = append(found, l)
		}
	}
	switch {
	case len(found) == 0:
		o.problem = "unknown"
	case len(found) > 1:
		o.problem = "ambiguous"
	case glued && !found[0].value:
		o.problem = "valueless"
	default:
		o.name, o.valued = "--"+found[0].name, found[0].value
		if glued {
			o.word = word{value, o.word.arg, len(a) - len(value)}
		} else if o.valued {
			s.value(&o)
		}
	}
	return o
}

// value takes the next argument, whatever it looks like.
func (s *scanner) value(o *option) {
	if s.next >= len(s.args) {
		o.problem = "missing"
		return
	}
	o.word = word{s.args[s.next], s.next, 0}
	s.next++
}
