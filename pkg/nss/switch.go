package nss

import (
	"bytes"
	"slices"
	"strings"
)

// plan is where the accounts of one database come from, of nsswitch.conf(5).
type plan struct {
	// localFirst: what the local file has is the answer, nobody else is asked.
	localFirst bool
	// others are the sources beside the local file; none: the file is all there is.
	others []string
}

// filesOnly is the plan of a system without nsswitch.conf.
var filesOnly = plan{localFirst: true}

// parseSwitch finds the plan of a database in the text of nsswitch.conf. compat
// reports whether the local file hands on to NIS, which the source compat obeys.
func parseSwitch(text []byte, database string, compat func() bool) plan {
	p, found := filesOnly, false
	for line := range bytes.Lines(text) {
		line, _, _ = bytes.Cut(line, []byte("#"))
		name, rest, ok := strings.Cut(string(line), ":")
		if !ok || strings.TrimSpace(name) != database {
			continue
		}
		one := parseSources(rest, compat)
		if found && len(one.others) == 0 {
			continue // two lines: none may hide a source
		}
		p, found = one, true
	}
	return p
}

// parseSources reads "files [NOTFOUND=return] sss".
func parseSources(s string, compat func() bool) plan {
	var p plan
	words := strings.FieldsFunc(strings.NewReplacer("[", " [ ", "]", " ] ").Replace(s), func(r rune) bool { return r == ' ' || r == '\t' || r == '\n' || r == '\r' })
	for i, first := 0, true; i < len(words); first = false {
		source := words[i]
		found, missing := "return", "continue"
		for i++; i < len(words) && words[i] == "["; {
			end := slices.Index(words[i:], "]")
			if end < 0 {
				end = len(words) - i // as if it were closed behind the last word
			}
			for _, w := range words[i+1 : i+end] {
				found, missing = action(w, found, missing)
			}
			i += end + 1
		}
		local := source == "files" || source == "compat" && !compat()
		switch {
		case !local && !slices.Contains(p.others, source):
			p.others = append(p.others, source)
		case local && first:
			p.localFirst = found != "continue"
		}
		if missing == "return" {
			break // what comes behind is asked only when this source fails
		}
	}
	if len(p.others) == 0 {
		return filesOnly
	}
	return p
}

// action is what one STATUS=ACTION makes of what to do when a name was found and
// when it was not.
func action(word, found, missing string) (string, string) {
	status, act, _ := strings.Cut(strings.ToLower(word), "=")
	status, not := strings.CutPrefix(status, "!")
	if (status == "success") != not {
		found = act
	}
	if (status == "notfound") != not {
		missing = act
	}
	return found, missing
}
