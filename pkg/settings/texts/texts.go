// Package texts makes the example file and the lists of manual pages from a table of
// settings. Only tests import it: they compare the files with what the table says, and
// with -update write them again.
package texts

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/settings"
)

// width is where lines of the example file end.
const width = 90

// ExampleFile is a file with every setting that acts: at its default or what is advised
// instead, or commented out where it has no value by default.
func ExampleFile(t settings.Table) string {
	var b strings.Builder
	for _, section := range t {
		body := example(&section)
		if body == "" {
			continue
		}
		fmt.Fprintf(&b, "\n# --- %s ---\n\n", title(&section))
		if section.Doc != "" {
			comment(&b, section.Doc)
			b.WriteString("\n")
		}
		b.WriteString(body)
	}
	return b.String()
}

func title(s *settings.Section) string {
	if s.Restart {
		return s.Title + " (restart)"
	}
	return s.Title
}

func example(s *settings.Section) string {
	var b, keys strings.Builder
	for _, k := range s.List {
		if k.In == settings.FlagOnly || k.Effect != settings.Acts || k.For != "" {
			continue
		}
		switch {
		case k.Advice != "":
			fmt.Fprintf(&keys, "%s = %s\n", k.Name, k.Advice)
		case k.Example != "":
			fmt.Fprintf(&keys, "#%s = %s\n", k.Name, k.Example)
		default:
			fmt.Fprintf(&keys, "%s = %s\n", k.Name, k.Get())
		}
		if k.Doc == "" {
			continue // more keys with the same comment
		}
		comment(&b, text(&k, values|mark.unless(s.Restart)|byDefault.unless(k.Advice+k.Example == "")))
		b.WriteString(keys.String())
		keys.Reset()
	}
	return b.String()
}

// comment writes text as lines that begin with #.
func comment(b *strings.Builder, text string) {
	line := "#"
	for _, word := range strings.Fields(text) {
		if len(line)+1+len(word) > width {
			b.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	if line != "#" {
		b.WriteString(line + "\n")
	}
}

// parts are what the table itself says of a setting behind Doc's sentences.
type parts int

const (
	values    parts = 1 << iota // which there are
	byDefault                   // which holds where none is given
	mark                        // that a change needs a restart
)

// unless is p, or nothing where it is not wanted.
func (p parts) unless(unwanted bool) parts {
	if unwanted {
		return 0
	}
	return p
}

// text is Doc and the parts that are wanted, one sentence a line.
func text(s *settings.Setting, wanted parts) string {
	var more []string
	switch {
	case wanted&values == 0 || s.Effect != settings.Acts:
	case s.Range != "":
		more = append(more, s.Range)
	case len(s.OneOf) > 0 && s.Arg != "":
		more = append(more, "One of "+strings.Join(s.OneOf, ", "))
	}
	if d := unset(s); d != "" && wanted&byDefault != 0 {
		more = append(more, "by default "+d)
	}
	if len(more) > 0 {
		more[0] = strings.ToUpper(more[0][:1]) + more[0][1:]
	}
	all := s.Doc
	if len(more) > 0 {
		all += "\n" + strings.Join(more, "; ") + "."
	}
	if s.Restart && wanted&mark != 0 {
		all = strings.TrimSuffix(all, ".") + " (restart)."
	}
	return all
}

// unset is what holds where no value is given.
func unset(s *settings.Setting) string {
	if s.Unset == "" && s.Get != nil && s.Effect == settings.Acts && s.For == "" {
		return s.Get()
	}
	return s.Unset
}

// ManKeys is the table's sections as mdoc, for a page of section 5.
func ManKeys(t settings.Table) string {
	var b strings.Builder
	for _, section := range t {
		if section.Title != "" {
			fmt.Fprintf(&b, ".Ss %s\n", title(&section))
		}
		mdoc(&b, section.Doc)
		b.WriteString(".Bl -tag -width Ds\n")
		several := false // share one text, and may differ in their defaults
		for _, s := range section.List {
			if s.In == settings.FlagOnly {
				continue
			}
			b.WriteString(".It Cm " + s.Name)
			if arg := s.ValueName(); arg != "" && s.Effect != settings.Idle {
				b.WriteString(" No = Ar " + arg)
			}
			b.WriteString("\n")
			if s.Doc != "" {
				mdoc(&b, text(&s, values|byDefault.unless(several)|mark.unless(section.Restart)))
			}
			several = s.Doc == ""
		}
		b.WriteString(".El\n")
	}
	return b.String()
}

// ManOptions is the flags as items of a list in mdoc, for a page of section 8. brief is
// for a page that leaves the rest to one of section 5: of what a file can have, too, it
// has the first sentence only.
func ManOptions(t settings.Table, brief bool) string {
	var b strings.Builder
	for s := range t.All() {
		if s.In == settings.FileOnly {
			continue
		}
		b.WriteString(".It Fl -" + settings.FlagName(s.Name))
		if !s.IsSwitch() {
			b.WriteString(" Ar " + s.ValueName())
		}
		b.WriteString("\n")
		switch {
		case s.IsSwitch():
			mdoc(&b, s.Doc)
		case brief && s.In == settings.FileAndFlag:
			s.Doc, _, _ = strings.Cut(s.Doc, "\n")
			mdoc(&b, text(&s, byDefault))
		default:
			mdoc(&b, text(&s, values|byDefault))
		}
	}
	return b.String()
}

var reference = regexp.MustCompile(` ?\b([a-z][a-z.-]*)\(([58])\)([.,;:]?) ?`)

// mdoc writes text in the language of manual pages, with a reference for each name(8).
func mdoc(b *strings.Builder, text string) {
	if text == "" {
		return
	}
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.ReplaceAll(line, `\`, `\e`)
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			line = `\&` + line
		}
		line = reference.ReplaceAllStringFunc(line, func(found string) string {
			m := reference.FindStringSubmatch(found)
			return "\n" + strings.TrimRight(".Xr "+m[1]+" "+m[2]+" "+m[3], " ") + "\n"
		})
		b.WriteString(strings.Trim(line, "\n") + "\n")
	}
}
