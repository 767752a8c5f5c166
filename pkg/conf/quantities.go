package conf

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Seconds returns a key for a whole number of seconds, the unit of all stock keys.
func Seconds(name string, to *time.Duration, least, most uint64) Key {
	get := func() string { return strconv.FormatInt(int64(*to/time.Second), 10) }
	return Key{Name: name, Range: span(least, most, ""), Get: get, Set: func(v string) error {
		n, err := number(v, least, min(most, 1<<33))
		if err == nil {
			*to = time.Duration(n) * time.Second
		}
		return err
	}}
}

// Duration returns a key for a number with a unit (300ms, 90s, 5m, 2h, 7d), or without
// one for seconds.
func Duration(name string, to *time.Duration, least, most time.Duration) Key {
	within := formatDuration(least) + " to " + formatDuration(most)
	if most == math.MaxInt64 {
		within = "at least " + formatDuration(least)
	}
	return Key{Name: name, Range: within, Get: func() string { return formatDuration(*to) }, Set: func(v string) error {
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

// formatDuration writes a duration as ParseDuration reads it, without units that are 0.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// ParseDuration parses the values of Duration.
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

// Bytes returns a key for a size: a number of bytes, or a number with K, M, G or T
// (powers of 1024, also written KiB or KB).
func Bytes[T ~int | ~int64](name string, to *T, least, most int64) Key {
	within := fmt.Sprintf("%s to %s", FormatBytes(least), FormatBytes(most))
	if most == math.MaxInt64 {
		within = "at least " + FormatBytes(least)
	}
	return Key{Name: name, Range: within, Get: func() string { return FormatBytes(int64(*to)) }, Set: func(v string) error {
		n, err := ParseBytes(v)
		switch {
		case err != nil:
			return err
		case n < least:
			return fmt.Errorf("%s is too small: at least %d bytes", v, least)
		case n > most:
			return fmt.Errorf("%s is too large: at most %d bytes", v, most)
		}
		*to = T(n)
		return nil
	}}
}

// FormatBytes returns n in the form that ParseBytes accepts, with the largest unit of
// which n is a whole multiple.
func FormatBytes(n int64) string {
	for i, unit := range []string{"T", "G", "M", "K"} {
		if shift := 40 - 10*i; n != 0 && n%(1<<shift) == 0 {
			return strconv.FormatInt(n>>shift, 10) + unit
		}
	}
	return strconv.FormatInt(n, 10)
}

// ParseBytes parses the values of Bytes.
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

// Space is an amount of disk space: MiB, or a percentage of the filesystem if Percent is
// not 0.
type Space struct {
	MiB     uint64
	Percent int
}

// Of returns the number of bytes that s means on a filesystem of total bytes.
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

// SpaceKey returns a key for a Space: a number of MiB, or 1% to 99%.
func SpaceKey(name string, to *Space) Key {
	return Key{Name: name, Range: "MiB, or 1% to 99% of the disk", Get: func() string { return to.String() }, Set: func(v string) error {
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

// Ports is a range of TCP ports, both ends included; the zero value stands for any port.
type Ports struct{ Low, High uint16 }

func (p Ports) String() string {
	switch {
	case p == Ports{}:
		return ""
	case p.Low == p.High:
		return strconv.Itoa(int(p.Low))
	}
	return fmt.Sprintf("%d-%d", p.Low, p.High)
}

// ParsePorts parses PORT or LOW-HIGH, each from 1 to 65535. The single number 0 stands
// for any port.
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

// PortsKey returns a key for a port or a range of ports.
func PortsKey(name string, to *Ports) Key {
	return Key{Name: name, Get: func() string { return to.String() }, Set: func(v string) error {
		p, err := ParsePorts(v)
		if err == nil {
			*to = p
		}
		return err
	}}
}
