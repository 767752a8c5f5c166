package conf

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// number reads digits only, as the stock parser: no sign, no base, no unit.
func number(s string, least, most uint64) (uint64, error) {
	if s == "" || strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }) >= 0 {
		return 0, fmt.Errorf("%q is not a number", clip(s))
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > most {
		return 0, fmt.Errorf("%s is too large: at most %d", clip(s), most)
	}
	if n < least {
		return 0, fmt.Errorf("%s is too small: at least %d", clip(s), least)
	}
	return n, nil
}

// Int is a decimal number from least to most.
func Int[T ~int | ~int64 | ~uint16 | ~uint32 | ~uint64](name string, to *T, least, most uint64) Key {
	return Key{Name: name, Set: func(v string) error {
		n, err := number(v, least, most)
		if err == nil {
			*to = T(n)
		}
		return err
	}}
}

// YesNo is yes or no.
func YesNo(name string, to *bool) Key {
	return Key{Name: name, Set: func(v string) error {
		switch strings.ToLower(v) {
		case "yes":
			*to = true
		case "no":
			*to = false
		default:
			return fmt.Errorf("%q is neither yes nor no", clip(v))
		}
		return nil
	}}
}

// Enum is one of some words, in any case; it is stored in lower case.
func Enum[T ~string](name string, to *T, words ...T) Key {
	return Key{Name: name, Set: func(v string) error {
		word, err := oneOf(v, words)
		if err == nil {
			*to = word
		}
		return err
	}}
}

func oneOf[T ~string](v string, words []T) (T, error) {
	list := make([]string, len(words))
	for i, w := range words {
		if strings.EqualFold(string(w), v) {
			return w, nil
		}
		list[i] = string(w)
	}
	return "", fmt.Errorf("%q is none of %s", clip(v), strings.Join(list, ", "))
}

// Word is any single word.
func Word(name string, to *string) Key {
	return Key{Name: name, Set: func(v string) error { *to = v; return nil }}
}

// Path is an absolute path.
func Path(name string, to *string) Key {
	return Key{Name: name, Set: func(v string) error {
		if !filepath.IsAbs(v) {
			return fmt.Errorf("%q is not an absolute path", clip(v))
		}
		*to = v
		return nil
	}}
}

// List is words separated by commas or spaces.
func List(name string, to *[]string) Key {
	return Key{Name: name, Words: -1, Set: func(v string) error {
		list := strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' })
		if len(list) == 0 {
			return errors.New("nothing but commas")
		}
		*to = list
		return nil
	}}
}

// Seconds is a whole number of seconds, as all stock keys have them.
func Seconds(name string, to *time.Duration, least, most uint64) Key {
	return Key{Name: name, Set: func(v string) error {
		n, err := number(v, least, min(most, 1<<33))
		if err == nil {
			*to = time.Duration(n) * time.Second
		}
		return err
	}}
}

// Duration is a number with a unit (300ms, 90s, 5m, 2h, 7d) or of seconds.
func Duration(name string, to *time.Duration, least, most time.Duration) Key {
	return Key{Name: name, Set: func(v string) error {
		d, err := ParseDuration(v)
		switch {
		case err != nil:
			return err
		case d < least:
			return fmt.Errorf("%s is too short: at least %s", v, least)
		case d > most:
			return fmt.Errorf("%s is too long: at most %s", v, most)
		}
		*to = d
		return nil
	}}
}

// ParseDuration reads what Duration takes.
func ParseDuration(v string) (time.Duration, error) {
	if n, err := number(v, 0, 1<<33); err == nil {
		return time.Duration(n) * time.Second, nil
	}
	if days, ok := strings.CutSuffix(strings.ToLower(v), "d"); ok {
		n, err := number(days, 0, 1<<16)
		if err != nil {
			return 0, err
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(strings.ToLower(v))
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a duration such as 30s, 5m, 2h or 7d", clip(v))
	}
	return d, nil
}

// Bytes is a size: a number of bytes, or with K, M, G or T (powers of 1024, also
// written KiB or KB).
func Bytes(name string, to *int64, least, most int64) Key {
	return Key{Name: name, Set: func(v string) error {
		n, err := ParseBytes(v)
		switch {
		case err != nil:
			return err
		case n < least:
			return fmt.Errorf("%s is too small: at least %d bytes", v, least)
		case n > most:
			return fmt.Errorf("%s is too large: at most %d bytes", v, most)
		}
		*to = n
		return nil
	}}
}

// ParseBytes reads what Bytes takes.
func ParseBytes(v string) (int64, error) {
	digits := strings.TrimRight(v, "kKmMgGtTiIbB")
	shift := 0
	switch unit := strings.ToLower(v[len(digits):]); unit {
	case "", "b":
	case "k", "kb", "kib":
		shift = 10
	case "m", "mb", "mib":
		shift = 20
	case "g", "gb", "gib":
		shift = 30
	case "t", "tb", "tib":
		shift = 40
	default:
		return 0, fmt.Errorf("%q is not a size such as 64M or 1G", clip(v))
	}
	n, err := number(digits, 0, 1<<62>>shift)
	if err != nil {
		return 0, fmt.Errorf("%q is not a size such as 64M or 1G: %w", clip(v), err)
	}
	return int64(n) << shift, nil
}

// Space is an amount of disk: MiB, or percent of the filesystem when Percent is
// not 0.
type Space struct {
	MiB     uint64
	Percent int
}

// Of returns the bytes meant on a filesystem of total bytes.
func (s Space) Of(total uint64) uint64 {
	if s.Percent > 0 {
		return total / 100 * uint64(s.Percent)
	}
	return min(s.MiB, math.MaxUint64>>20) << 20
}

func (s Space) String() string {
	if s.Percent > 0 {
		return strconv.Itoa(s.Percent) + "%"
	}
	return strconv.FormatUint(s.MiB, 10)
}

// SpaceKey is MiB or 1% to 99%.
func SpaceKey(name string, to *Space) Key {
	return Key{Name: name, Set: func(v string) error {
		if p, ok := strings.CutSuffix(v, "%"); ok {
			n, err := number(p, 1, 99)
			if err != nil {
				return fmt.Errorf("percentage: %w", err)
			}
			*to = Space{Percent: int(n)}
			return nil
		}
		n, err := number(v, 0, 1<<32-1)
		if err != nil {
			return err
		}
		*to = Space{MiB: n}
		return nil
	}}
}

// Ports is a range of TCP ports; the zero value is any.
type Ports struct{ Low, High uint16 }

// ParsePorts reads PORT or LOW-HIGH, 1 to 65535. A lone 0 means any.
func ParsePorts(v string) (Ports, error) {
	low, high, isRange := strings.Cut(v, "-")
	if !isRange {
		high = low
	}
	a, err := number(low, 0, 65535)
	if err != nil {
		return Ports{}, fmt.Errorf("want a port or two with a dash between: %w", err)
	}
	b, err := number(high, 0, 65535)
	if err != nil {
		return Ports{}, fmt.Errorf("want a port or two with a dash between: %w", err)
	}
	if a > b {
		return Ports{}, fmt.Errorf("the range %s is reversed", v)
	}
	return Ports{uint16(a), uint16(b)}, nil
}

// PortsKey is a port or a range.
func PortsKey(name string, to *Ports) Key {
	return Key{Name: name, Set: func(v string) error {
		p, err := ParsePorts(v)
		if err == nil {
			*to = p
		}
		return err
	}}
}

// Action is what to do about a condition: Do is one of the words the key allows;
// Exec is the program of `exec /path`.
type Action struct {
	Do   Do
	Exec string
}

func (a Action) String() string {
	if a.Do == DoExec {
		return "exec " + a.Exec
	}
	return string(a.Do)
}

// Do is an action's word.
type Do string

// The stock actions.
const (
	DoIgnore           Do = "ignore"
	DoSyslog           Do = "syslog"
	DoRotate           Do = "rotate"
	DoKeepLogs         Do = "keep_logs"
	DoEmail            Do = "email"
	DoExec             Do = "exec"
	DoSuspend          Do = "suspend"
	DoSingle           Do = "single"
	DoHalt             Do = "halt"
	DoStop             Do = "stop"
	DoWarnOnce         Do = "warn_once"
	DoWarnOnceContinue Do = "warn_once_continue"
	DoReconnect        Do = "reconnect"
)

// ActionKey is one of the actions allowed; `exec` takes an absolute path, which
// must be an executable file unless stat is nil.
func ActionKey(name string, to *Action, stat func(path string) error, allowed ...Do) Key {
	return Key{Name: name, Words: 2, Set: func(v string) error {
		word, arg, _ := strings.Cut(v, " ")
		do, err := oneOf(word, allowed)
		if err != nil {
			return err
		}
		if do != DoExec {
			if arg != "" {
				return fmt.Errorf("unexpected %q after %s", clip(arg), do)
			}
			*to = Action{Do: do}
			return nil
		}
		if arg == "" {
			return errors.New("exec needs the path of a program")
		}
		if !filepath.IsAbs(arg) {
			return fmt.Errorf("exec needs an absolute path, not %q", clip(arg))
		}
		if stat != nil {
			if err := stat(arg); err != nil {
				return err
			}
		}
		*to = Action{Do: DoExec, Exec: arg}
		return nil
	}}
}

// Ignored is a key that is accepted and has no effect here; why is the warning,
// none when empty.
func Ignored(name, why string) Key {
	return Key{Name: name, Words: -1, Empty: true, Note: func(string) string { return why }}
}

// Refused is a key of which only the values that change nothing are accepted.
func Refused(name, why string, harmless ...string) Key {
	return Key{Name: name, Set: func(v string) error {
		if _, err := oneOf(v, harmless); err == nil {
			return nil
		}
		return errors.New(why)
	}}
}
