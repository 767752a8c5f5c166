// Package option defines tables of options for commands that keep a stock tool's grammar
// and therefore cannot use a flag library. A command's parser reads its command line by
// such a table, shell completion offers words from the same table, and tests compare the
// manual pages with it. It imports no other package of this module.
package option

import (
	"slices"
	"strings"
)

// Option describes one option of a command line.
type Option struct {
	Names []string // every spelling, dashes included
	Value string   // name of its value in texts; empty for an option without a value
	Brief string   // its purpose, in a few words

	Optional bool // the value may be left out
	Dash     bool // the value may begin with '-'
	More     int  // number of words that may follow the value
	Equals   bool // NAME=VALUE is accepted, too

	Words Words // completions of the value
}

// Words describes what shell completion offers for a value.
type Words struct {
	// List returns the words to offer. A word may be followed by a tab and its
	// description. before holds the arguments in front of the one being typed, typed is
	// the text of that argument so far. The user continues a word that ends in '='.
	List func(before []string, typed string) []string

	Comma   bool // the value is a list of words with commas between them
	Files   bool // the value is the name of a file
	Folders bool // the value is the name of a folder
}

// These returns Words that always offer the given words.
func These(words ...string) Words {
	return Words{List: func([]string, string) []string { return words }}
}

// Files and Folders offer the names of files and of folders.
var (
	Files   = Words{Files: true}
	Folders = Words{Folders: true}
)

// Table holds all options of a command.
type Table []Option

// Find returns the option that has name among its Names, or nil. The pointer is into t.
func (t Table) Find(name string) *Option {
	for i := range t {
		if slices.Contains(t[i].Names, name) {
			return &t[i]
		}
	}
	return nil
}

// Names returns every spelling of every option.
func (t Table) Names() (all []string) {
	for _, o := range t {
		all = append(all, o.Names...)
	}
	return all
}

// Valued maps every spelling to whether the option takes a value.
func (t Table) Valued() map[string]bool {
	all := map[string]bool{}
	for _, o := range t {
		for _, n := range o.Names {
			all[n] = o.Value != ""
		}
	}
	return all
}

// SplitEquals returns args with each NAME=VALUE replaced by two arguments, for the
// options that allow that form.
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

// Found is the result of Complete: the words, and whether names of files or folders may
// follow too.
type Found struct {
	Words   []string // each may be followed by a tab and its description
	NoSpace bool     // the shell adds no space: the user continues the word
	Files   bool     // names of files are offered, too
	Folders bool     // names of folders are offered, too
}

// Complete returns the completions of an argument. typed is the text of that argument so
// far, before holds the arguments in front of it, and rest describes the arguments that
// are not options.
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

// found returns the words that continue typed. In a list with commas, they continue its last
// part, and words that are in the list already are left out.
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

// given reports whether a word is in the list so far, which may end with a comma.
func given(list, word string) bool {
	return list != "" && slices.Contains(strings.Split(list, ","), word)
}
