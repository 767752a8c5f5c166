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

// Int is a decimal number from least to most.
func Int[T ~int | ~int64 | ~uint16 | ~uint32 | ~uint64](name string, to *T, least, most uint64) Key {
	return Key{Name: name, Range: span(least, most, ""), Get: func() string { return strconv.FormatUint(uint64(*to), 10) }, Set: func(v string) error {
		n, err := number(v, least, most)
		if err == nil {
			*to = T(n)
		}
		return err
	}}
}

// YesNo is yes or no; on a command line also true or false.
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

// Enum is one of some words, in any case; it is stored in lower case.
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

// Word is any single word.
func Word(name string, to *string) Key {
	return Key{Name: name, Get: func() string { return *to }, Set: func(v string) error { *to = v; return nil }}
}

// Path is an absolute path; on a command line, any.
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

// List is words separated by commas or spaces.
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

// Ignored is a key that is accepted and has no effect here; why is the warning,
// none when empty.
func Ignored(name, why string) Key {
	return Key{Name: name, Words: -1, Empty: func() {}, Note: func(string) string { return why }}
}

// Refused is a key of which only the values that change nothing are accepted.
func Refused(name, why string, harmless ...string) Key {
	return Key{Name: name, OneOf: harmless, Set: func(v string) error {
		if _, err := oneOf(v, harmless); err == nil {
			return nil
		}
		return errors.New(why)
	}}
}
