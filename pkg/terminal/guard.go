package terminal

import (
	"io"
	"os"
	"sync"
	"unicode/utf8"

	"github.com/mattn/go-isatty"
)

// Form is the kind of text that passes through a guard. It decides what the guard lets
// through.
type Form uint8

// Forms of text.
const (
	// Text is lines of text: newlines and tabs pass, everything else is treated as in
	// AppendClean.
	Text Form = iota
	// Styled is Text that may contain colours ("ESC [ 1 m"). The writer must apply
	// AppendClean to every part that others can choose before it adds colours.
	Styled
	// JSON is Text in which a replaced character becomes a JSON escape, so that the
	// output stays valid JSON.
	JSON
)

// guard is a writer that replaces everything in a text that would control a terminal.
// Names, hosts and messages in records come from whoever could cause a record, and a
// terminal executes the escape sequences that it receives. One guard in front of the
// terminal covers every output format.
//
// w, file and form do not change after the guard was made. mu guards rest and buf, and is
// held during the write to w: concurrent writes appear one after the other, each
// complete. rest holds an unfinished character or escape sequence from the end of the
// last Write; the next Write continues it and flush writes it as it is. So a sequence
// that is split over two writes is recognised, and bytes never overtake each other.
type guard struct {
	w    io.Writer // the terminal, or a pager in front of it
	file *os.File  // the terminal
	form Form

	mu   sync.Mutex // guards all below
	rest []byte     // the begin of a character that the last write cut
	buf  []byte
}

// Guard returns w behind a guard for Text if w is a terminal without a guard, and
// otherwise w.
func Guard(w io.Writer) io.Writer { return GuardAs(w, Text) }

// GuardAs is Guard for another Form. It replaces a guard that w already has.
func GuardAs(w io.Writer, form Form) io.Writer {
	if f, ok := File(w); ok && IsTerminal(f) {
		return &guard{w: Bare(w), file: f, form: form}
	}
	return w
}

// GuardLog returns w behind a guard even if w is no terminal: somebody reads the log's
// file or journal on a terminal later.
func GuardLog(w io.Writer) io.Writer {
	file, _ := File(w)
	return &guard{w: Bare(w), file: file}
}

// Bare returns w without its guard. It is for output that is not text of records, and for
// programs that the user starts.
func Bare(w io.Writer) io.Writer {
	if g, ok := w.(*guard); ok {
		return g.w
	}
	return w
}

// File returns the file to which w writes, directly or through a guard. ok is false if
// there is none.
func File(w any) (*os.File, bool) {
	if g, ok := w.(*guard); ok {
		return g.file, g.file != nil
	}
	f, ok := w.(*os.File)
	return f, ok && f != nil
}

// IsTerminal reports whether w is a terminal, directly or behind a guard.
func IsTerminal(w any) bool {
	f, ok := File(w)
	return ok && isatty.IsTerminal(f.Fd())
}

// Write writes all of p, except for an unfinished character or escape sequence at its
// end, which it keeps in rest until the next Write or flush.
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
