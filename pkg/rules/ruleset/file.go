package ruleset

import (
	"errors"
	"fmt"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/rules"
)

// Line is a line of a rule file that is neither blank nor a comment.
type Line struct {
	File  string // where it was written
	No    int    // its number there, from 1
	Text  string // without the newline
	Words []rules.Word
	Cmd   *rules.Command // nil when Err is set
	Err   *rules.Error   // why the line is refused
}

// File is a parsed rule file. A line with an error does not end it.
type File struct {
	Name  string
	Lines []Line
}

// Parse parses a rule file. name is the File of its lines; env describes the machine for
// which the rules are.
func Parse(name string, data []byte, env rules.Env) *File {
	f := &File{Name: name}
	for i, text := range splitLines(data) {
		f.add(name, i+1, text, env)
	}
	return f
}

// splitLines cuts data at newlines. The last line needs none.
func splitLines(data []byte) []string {
	if len(data) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
}

func (f *File) add(name string, no int, text string, env rules.Env) {
	words := rules.SplitLine(text)
	if len(words) == 0 {
		return
	}
	l := Line{File: name, No: no, Text: text, Words: words}
	cmd, err := rules.ParseArgs(rules.Args(words), env)
	switch {
	case err != nil:
		if !errors.As(err, &l.Err) {
			l.Err = &rules.Error{Msg: err.Error(), Arg: -1}
		}
		l.quotes()
	case cmd.Has(rules.OpReadFile):
		l.Err = &rules.Error{Msg: "Error - nested rule files not supported", Arg: 0, Len: len("-R"),
			Hint: "write that file's rules into this one, or put both into a rules.d folder"}
	default:
		l.Cmd = cmd
	}
	f.Lines = append(f.Lines, l)
}

// quotes corrects the hint about words that belong to no option: on a command
// line a value with spaces is quoted, in a rule file quotes are characters.
func (l *Line) quotes() {
	const advice = `quote or escape (\ ) a value with spaces`
	if !strings.Contains(l.Err.Hint, advice) {
		return
	}
	instead := `in a rule file a space within a value is written "\ "`
	for _, w := range l.Words {
		if strings.Trim(w.Text, `"'`) != w.Text {
			instead = "quotes mean nothing in a rule file: leave them out; " + instead[len("in a rule file "):]
			break
		}
	}
	l.Err.Hint = strings.Replace(l.Err.Hint, advice, instead, 1)
}

// Place returns FILE:LINE, or FILE:LINE:COLUMN if a word of the line is at fault.
func (l *Line) Place() string {
	if l.Err == nil || l.Err.Arg < 0 {
		return fmt.Sprintf("%s:%d", l.File, l.No)
	}
	return fmt.Sprintf("%s:%d:%d", l.File, l.No, l.Err.Column(l.Words))
}

// Explain describes the error of a refused line: its place and auditctl's message, then
// the word at fault and what to do, each in a line of its own. It returns "" for a line
// without an error.
func (l *Line) Explain() string {
	if l.Err == nil {
		return ""
	}
	return l.Place() + ": " + l.Err.Msg + "\n" + l.Err.Detail(rules.Args(l.Words))
}

// IgnoresErrors reports whether a line makes auditctl go on after errors, and
// whether a failed line makes its exit code 1 then (-c) or not (-i). Both count
// even when what follows them on the line is refused.
func (l *Line) IgnoresErrors() (goOn, fails bool) {
	switch l.Words[0].Text {
	case "-c":
		return true, true
	case "-i":
		return true, false
	}
	return false, false
}
