package terminal

import (
	"io"
	"os"
	"sync"
	"unicode/utf8"

	"github.com/mattn/go-isatty"
)

// Form is what text a guard is for.
type Form uint8

// Forms of text.
const (
	// Text is lines: newlines and tabs pass, all else is as AppendClean has it.
	Text Form = iota
	// Styled is Text with colours ("ESC [ 1 m"). It is for output whose parts that
	// others choose went through AppendClean before they were coloured.
	Styled
	// JSON is Text whose odd characters are written as JSON has them, so that it
	// stays JSON.
	JSON
)

// guard makes what is written to a terminal harmless. Names, hosts and messages come
// from whoever could cause a record, and a terminal obeys what it is sent: it is
// better to have this at the one way to the terminal than in every format.
type guard struct {
	w    io.Writer // the terminal, or a pager in front of it
	file *os.File  // the terminal
	form Form

	mu   sync.Mutex // guards all below
	rest []byte     // the begin of a character that the last write cut
	buf  []byte
}

// Guard returns w, with a guard before it where it is a terminal that has none.
func Guard(w io.Writer) io.Writer { return GuardAs(w, Text) }

// GuardAs is Guard for a form of text, in the place of a guard for another one.
func GuardAs(w io.Writer, form Form) io.Writer {
	if f, ok := File(w); ok && IsTerminal(f) {
		return &guard{w: Bare(w), file: f, form: form}
	}
	return w
}

// GuardLog returns w with a guard before it in any case: a log that goes to a file or
// a journal is read on a terminal later.
func GuardLog(w io.Writer) io.Writer {
	file, _ := File(w)
	return &guard{w: Bare(w), file: file}
}

// Bare returns w without its guard: for what is no text of records, and for the
// programs that the user runs.
func Bare(w io.Writer) io.Writer {
	if g, ok := w.(*guard); ok {
		return g.w
	}
	return w
}

// File returns the file that w is, perhaps behind a guard.
func File(w any) (*os.File, bool) {
	if g, ok := w.(*guard); ok {
		return g.file, g.file != nil
	}
	f, ok := w.(*os.File)
	return f, ok && f != nil
}

// IsTerminal says whether w is a terminal, perhaps behind a guard.
func IsTerminal(w any) bool {
	f, ok := File(w)
	return ok && isatty.IsTerminal(f.Fd())
}

// Write writes all of p; the begin of a character at its end waits for the rest.
func (g *guard) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	text := p
	if len(g.rest) > 0 {
		text = append(g.rest, p...)
	}
	g.buf, text = g.append(g.buf[:0], text, false)
	g.rest = append([]byte(nil), text...)
	if len(g.buf) == 0 {
		return len(p), nil
	}
	if _, err := g.w.Write(g.buf); err != nil {
		return 0, err
	}
	return len(p), nil
}

// flush writes what waits.
func (g *guard) flush() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.rest) == 0 {
		return nil
	}
	g.buf, _ = g.append(g.buf[:0], g.rest, true)
	g.rest = nil
	_, err := g.w.Write(g.buf)
	return err
}

// append appends text made harmless, and returns what may be the begin of more.
func (g *guard) append(dst, text []byte, last bool) (_, rest []byte) {
	for len(text) > 0 {
		c := text[0]
		switch {
		case c >= ' ' && c < 0x7f, c == '\n', c == '\t':
			dst, text = append(dst, c), text[1:]
			continue
		case c == 0x1b && g.form == Styled:
			n, whole := style(text)
			if !whole && !last {
				return dst, text
			}
			if whole && n > 0 {
				dst, text = append(dst, text[:n]...), text[n:]
				continue
			}
		case c >= utf8.RuneSelf && !last && !utf8.FullRune(text):
			return dst, text
		}
		r, n := utf8.DecodeRune(text)
		switch bad := r == utf8.RuneError && n == 1; {
		case !bad && shown(r):
			dst = append(dst, text[:n]...)
		case g.form == JSON:
			dst = appendUnicode(dst, r)
		default:
			dst = appendOctal(dst, text[:n])
		}
		text = text[n:]
	}
	return dst, nil
}

// style returns the length of the colour that text begins with, 0 for none; not
// whole when text ends too early to tell.
func style(text []byte) (n int, whole bool) {
	const most = 16
	for i, c := range text {
		switch {
		case i == 0:
		case i == 1 && c != '[', i == most:
			return 0, true
		case i == 1:
		case c == 'm':
			return i + 1, true
		case c != ';' && (c < '0' || c > '9'):
			return 0, true
		}
	}
	return 0, false
}
