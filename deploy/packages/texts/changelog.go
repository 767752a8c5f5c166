package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
)

// packaged says which package a changelog is of.
type packaged struct {
	name, version, maintainer string
	at                        time.Time // of the commit
}

// release is a section of CHANGELOG.md; its version is "" where it is not released.
type release struct {
	version string
	at      time.Time
	items   []string
}

var heading = regexp.MustCompile(`^## (?:Unreleased|v([0-9.]+) \((\d{4}-\d{2}-\d{2})\))$`)

// releases reads CHANGELOG.md. A section that it does not know is an error: it would be
// missing in the package.
func releases(in io.Reader) ([]release, error) {
	var all []release
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	open := false // an item goes on in the next line
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "## ") {
			m := heading.FindStringSubmatch(line)
			if m == nil {
				return nil, fmt.Errorf("CHANGELOG.md: %q is neither Unreleased nor a version with its date", line)
			}
			r := release{version: m[1]}
			if m[1] != "" {
				var err error
				if r.at, err = time.Parse(time.DateOnly, m[2]); err != nil {
					return nil, fmt.Errorf("CHANGELOG.md: %q: %w", line, err)
				}
			}
			all, open = append(all, r), false
			continue
		}
		text := strings.TrimSpace(line)
		if text == "" || len(all) == 0 {
			open = false
			continue
		}
		r := &all[len(all)-1]
		item, begins := strings.CutPrefix(text, "- ")
		switch {
		case begins || strings.HasPrefix(text, "#") || !open:
			r.items = append(r.items, strings.TrimLeft(item, "# "))
		default:
			r.items[len(r.items)-1] += " " + text
		}
		open = !strings.HasPrefix(text, "#")
	}
	if len(all) == 0 {
		return nil, errors.Join(errors.New("CHANGELOG.md has no section"), lines.Err())
	}
	return all, lines.Err()
}

// sections are CHANGELOG.md's as a package has them: what is not released yet, and what the
// package's own version is, under the package's version and the commit's time.
func (p packaged) sections(in io.Reader) ([]release, error) {
	all, err := releases(in)
	if err != nil {
		return nil, err
	}
	if all[0].version == "" && len(all[0].items) == 0 && len(all) > 1 {
		all = all[1:]
	}
	for i := range all {
		all[i].version += "-1"
	}
	all[0].version, all[0].at = p.version, p.at
	return all, nil
}

// debian writes a changelog in Debian's format.
func (p packaged) debian(out io.Writer, in io.Reader) error {
	all, err := p.sections(in)
	for i, r := range all {
		if i > 0 {
			fmt.Fprintln(out)
		}
		fmt.Fprintf(out, "%s (%s) unstable; urgency=medium\n\n", p.name, r.version)
		for _, item := range r.items {
			wrap(out, item)
		}
		fmt.Fprintf(out, "\n -- %s  %s\n", p.maintainer, r.at.UTC().Format(time.RFC1123Z))
	}
	return err
}

// nfpm writes a changelog as nfpm takes it for an .rpm: YAML, of which JSON is a part.
func (p packaged) nfpm(out io.Writer, in io.Reader) error {
	type note struct {
		Note string `json:"note"`
	}
	type entry struct {
		Semver   string    `json:"semver"`
		Date     time.Time `json:"date"`
		Packager string    `json:"packager"`
		Changes  []note    `json:"changes"`
	}
	all, err := p.sections(in)
	if err != nil {
		return err
	}
	list := make([]entry, len(all))
	for i, r := range all {
		list[i] = entry{Semver: r.version, Date: r.at.UTC(), Packager: p.maintainer}
		for _, item := range r.items {
			list[i].Changes = append(list[i].Changes, note{item})
		}
	}
	return json.NewEncoder(out).Encode(list)
}

// wrap writes an item in lines of 79 characters.
func wrap(out io.Writer, item string) {
	line := "  *"
	for word := range strings.FieldsSeq(item) {
		if len([]rune(line))+1+len([]rune(word)) > 79 && strings.TrimSpace(line) != "*" {
			fmt.Fprintln(out, line)
			line = "   "
		}
		line += " " + word
	}
	fmt.Fprintln(out, line)
}
