// Package option has tables of options, for the commands that have a stock tool's grammar
// and so can't use a flag library. A command's parser reads its command line by such a
// table, completion offers words from it, and tests compare manual pages with it. It
// imports nothing of ours.
package option

import (
	"slices"
	"strings"
)

// Option is one option.
type Option struct {
	Names []string // every spelling, dashes included
	Value string   // what its value is called; empty: it has none
	Brief string   // what it is for, in a few words

	Optional bool // the value may be left out
	Dash     bool // the value may begin with '-'
	More     int  // words that may come behind the value
	Equals   bool // NAME=VALUE may be written, too

	Words Words // of the value
}

// Words is what can be offered for a value.
type Words struct {
	// List returns the words there are, each perhaps with a tab and what it means.
	// before are the arguments in front of the one that is typed so far. A word that
	// ends in '=' is the beginning of one.
	List func(before []string, typed string) []string

	Comma   bool // several words may be given, with commas between them
	Files   bool // it is the name of a file
	Folders bool // it is the name of a folder
}

// These are words that are always the same.
func These(words ...string) Words {
	return Words{List: func([]string, string) []string { return words }}
}

// Files are the names of files, Folders those of folders.
var (
	Files   = Words{Files: true}
	Folders = Words{Folders: true}
)

// Table is all options of a command.
type Table []Option

// Find returns the option of that spelling, or nil.
func (t Table) Find(name string) *Option {
	for i := range t {
		if slices.Contains(t[i].Names, name) {
			return &t[i]
		}
	}
	return nil
}

// Names lists every spelling.
func (t Table) Names() (all []string) {
	for _, o := range t {
		all = append(all, o.Names...)
	}
	return all
}

// Valued tells of every spelling whether it takes a value.
func (t Table) Valued() map[string]bool {
	all := map[string]bool{}
	for _, o := range t {
		for _, n := range o.Names {
			all[n] = o.Value != ""
		}
	}
	return all
}

// SplitEquals writes NAME=VALUE as two arguments for the options that may be written so.
func (t Table) SplitEquals(args []string) []string {
	out := make([]string, 0, len(args)+2)
	for _, arg := range args {
		name, value, has := strings.Cut(arg, "=")
		if o := t.Find(name); has && o != nil && o.Equals {
			out = append(out, name, value)
			continue
		}
		out = append(out, arg)
	}
	return out
}

// Found is what may be typed next: words, and names of files or folders.
type Found struct {
	Words   []string // each perhaps with a tab and what it means
	NoSpace bool     // the word goes on
	Files   bool     // and the names of files
	Folders bool     // and the names of folders
}

// Complete returns what the argument that is typed so far may become. before are the
// arguments in front of it; rest is what may stand where no option is wanted.
func (t Table) Complete(before []string, typed string, rest Words) Found {
	o, required := t.pending(before)
	if name, value, ok := strings.Cut(typed, "="); ok && !required {
		if long := t.Find(name); long != nil && long.Equals {
			return long.Words.found(before, value)
		}
	}
	if required {
		return o.Words.found(before, typed)
	}
	if o != nil {
		rest = o.Words
	}
	found := rest.found(before, typed)
	// Options are offered where nothing else is, and where one was begun.
	if strings.HasPrefix(typed, "-") || typed == "" && !found.Files && !found.Folders && len(found.Words) == 0 {
		for _, o := range t {
			for _, n := range o.Names {
				if strings.HasPrefix(n, typed) {
					found.Words = append(found.Words, n+"\t"+o.Brief)
				}
			}
		}
	}
	return found
}

// pending returns the option whose value the next argument may be; required says that it
// must be.
func (t Table) pending(before []string) (o *Option, required bool) {
	for i := 0; i < len(before); {
		o := t.Find(before[i])
		i++
		if o == nil || o.Value == "" {
			continue
		}
		n := 0
		for n <= o.More && i < len(before) && (!strings.HasPrefix(before[i], "-") || n == 0 && o.Dash) {
			n++
			i++
		}
		if i == len(before) && n <= o.More {
			return o, n == 0 && !o.Optional
		}
	}
	return nil, false
}

func (w *Words) found(before []string, typed string) Found {
	f := Found{Files: w.Files, Folders: w.Folders}
	if w.List == nil {
		return f
	}
	kept := ""
	if w.Comma {
		kept = typed[:strings.LastIndexByte(typed, ',')+1]
	}
	for _, word := range w.List(before, typed) {
		text, _, _ := strings.Cut(word, "\t")
		if !strings.HasPrefix(kept+text, typed) || given(kept, text) {
			continue
		}
		f.Words = append(f.Words, kept+word)
		f.NoSpace = f.NoSpace || strings.HasSuffix(text, "=")
	}
	return f
}

// given says whether a word is in the list so far.
func given(list, word string) bool {
	return list != "" && slices.Contains(strings.Split(list, ","), word)
}
