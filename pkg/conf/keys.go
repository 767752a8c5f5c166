package conf

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
)

// number reads digits only, as the stock parser: no sign, no base, no unit.
func number(s string, least, most uint64) (uint64, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n < 0 {
		return 0, fmt.Errorf("%q is not a number of at least %d", s, least)
	}
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

// span is the range of numbers in words; a limit that nobody reaches is left out.
func span(least, most uint64, unit string) string {
	switch {
	case most < math.MaxInt32:
		return fmt.Sprintf("%d to %d%s", least, most, unit)
	case least > 0:
		return fmt.Sprintf("at least %d%s", least, unit)
	}
	return ""
}

// Int returns a key for a decimal number from least to most, both allowed.
func Int[T ~int | ~int64 | ~uint16 | ~uint32 | ~uint64](name string, to *T, least, most uint64) Key {
	return Key{Name: name, Range: span(least, most, ""), Get: func() string { return strconv.FormatUint(uint64(*to), 10) }, Set: func(v string) error {
		n, err := number(v, least, most)
		if err == nil {
			*to = T(n)
		}
		return err
	}}
}

// YesNo returns a key for yes or no; on a command line, true and false are allowed, too.
func YesNo(name string, to *bool) Key {
	set := func(v string) error {
		switch strings.ToLower(v) {
		case "yes":
			*to = true
		case "no":
			*to = false
		default:
			return fmt.Errorf("%q is neither yes nor no", clip(v))
		}
		return nil
	}
	return Key{Name: name, OneOf: []string{"yes", "no"}, Get: func() string { return yesNo(*to) }, Set: set, Loose: func(v string) error {
		if b, err := strconv.ParseBool(v); err == nil {
			*to = b
			return nil
		}
		return set(v)
	}}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// Enum returns a key for one of the given words, in any case. The value is stored in
// lower case.
func Enum[T ~string](name string, to *T, words ...T) Key {
	return Key{Name: name, OneOf: texts(words), Get: func() string { return string(*to) }, Set: func(v string) error {
		word, err := oneOf(v, words)
		if err == nil {
			*to = word
		}
		return err
	}}
}

func texts[T ~string](words []T) []string {
	list := make([]string, len(words))
	for i, w := range words {
		list[i] = string(w)
	}
	return list
}

func oneOf[T ~string](v string, words []T) (T, error) {
	for _, w := range words {
		if strings.EqualFold(string(w), v) {
			return w, nil
		}
	}
	if len(words) == 1 {
		return "", fmt.Errorf("%q is not supported: want %s", clip(v), words[0])
	}
	return "", fmt.Errorf("%q is none of %s", clip(v), strings.Join(texts(words), ", "))
}

// Word returns a key for any single word.
func Word(name string, to *string) Key {
	return Key{Name: name, Get: func() string { return *to }, Set: func(v string) error { *to = v; return nil }}
}

// Path returns a key for an absolute path; on a command line, a relative path is allowed,
// too.
func Path(name string, to *string) Key {
	k := Word(name, to)
	k.Loose = k.Set
	k.Set = func(v string) error {
		if !filepath.IsAbs(v) {
			return fmt.Errorf("%q is not an absolute path", clip(v))
		}
		return k.Loose(v)
	}
	return k
}

// List returns a key for words separated by commas or spaces.
func List(name string, to *[]string) Key {
	return Key{Name: name, Words: -1, Get: func() string { return strings.Join(*to, ",") }, Set: func(v string) error {
		list := strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' })
		if len(list) == 0 {
			return errors.New("nothing but commas")
		}
		*to = list
		return nil
	}}
}

// Ignored returns a key that is accepted and has no effect here. why is the warning about
// it; empty for none.
func Ignored(name, why string) Key {
	return Key{Name: name, Words: -1, Empty: func() {}, Note: func(string) string { return why }}
}

// Refused returns a key that accepts only the harmless values, which change nothing. why
// is the error about any other.
func Refused(name, why string, harmless ...string) Key {
	return Key{Name: name, OneOf: harmless, Set: func(v string) error {
		if _, err := oneOf(v, harmless); err == nil {
			return nil
		}
		return errors.New(why)
	}}
}
