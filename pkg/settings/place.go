package settings

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/conf"
)

// subject is the setting that an error begins with, as a flag or as a key.
var subject = regexp.MustCompile(`^(?:--)?([a-z][a-z0-9_-]*)(?:[ :=]|$)`)

// Placed returns err with file and line before it where it is about a value of the file f:
// it begins with a setting that f has, or has such a setting's value in it, as the error about
// a file that cannot be opened has its path. given reports whether a flag goes before the
// file. An error that says its place is returned as it is, as is one where f is nil.
func Placed(err error, f *conf.File, t Table, given func(flag string) bool) error {
	var one *conf.Error
	var many conf.Errors
	if err == nil || f == nil || errors.As(err, &one) || errors.As(err, &many) {
		return err
	}
	text := err.Error()
	if m := subject.FindStringSubmatch(text); m != nil {
		for _, key := range []string{m[1], strings.ReplaceAll(m[1], "-", "_")} {
			if line := f.Line(key); line > 0 && !given(FlagName(key)) {
				return fmt.Errorf("%s:%d: %w", f.Path, line, err)
			}
		}
	}
	key, longest := "", len("/a") // shorter ones are in any text
	for s := range t.All() {
		for _, name := range []string{s.Name, FlagName(s.Name)} {
			if v := f.Value(name); len(v) > longest && strings.Contains(text, v) && !given(FlagName(s.Name)) {
				key, longest = name, len(v)
			}
		}
	}
	if key == "" {
		return err
	}
	return fmt.Errorf("%s:%d: %s: %w", f.Path, f.Line(key), key, err)
}
