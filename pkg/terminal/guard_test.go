package terminal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/auditfleet/auditfleet/internal/need"
)

// hostile is text that a terminal would obey or hide, and what is to be seen of it.
var hostile = []struct{ text, want, json string }{
	{"plain, tab\tand ümläut 日本 é", "plain, tab\tand ümläut 日本 é", "plain, tab\tand ümläut 日本 é"},
	{"\x1b]0;title\a", `\033]0;title\007`, `\u001b]0;title\u0007`},
	{"\x1b[2J\x1b[31mred", `\033[2J\033[31mred`, `\u001b[2J\u001b[31mred`},
	{"over\rwritten\b\x7f", `over\015written\010\177`, `over\u000dwritten\u0008\u007f`},
	{"c1 \u009b2J\u0085", `c1 \302\2332J\302\205`, `c1 \u009b2J\u0085`},
	{"raw c1 \x9b2J \xc3", `raw c1 \2332J \303`, `raw c1 \ufffd2J \ufffd`},
	{"bidi \u202egnp\u202c \u2066x\u2069", `bidi \342\200\256gnp\342\200\254 \342\201\246x\342\201\251`, `bidi \u202egnp\u202c \u2066x\u2069`},
	{"zero\u200bwidth\ufeff \u200e\u2028\u00ad", `zero\342\200\213width\357\273\277 \342\200\216\342\200\250\302\255`, `zero\u200bwidth\ufeff \u200e\u2028\u00ad`},
	{"tag \U000e0041 filler \u3164 \ufe0f", `tag \363\240\201\201 filler \343\205\244 \357\270\217`, `tag \udb40\udc41 filler \u3164 \ufe0f`},
	{"\xff\xfe", `\377\376`, `\ufffd\ufffd`},
}

// What others may choose reaches a terminal as text that can be read, however the
// writes cut it.
func TestGuard(t *testing.T) {
	for _, form := range []Form{Text, Styled, JSON} {
		for _, c := range hostile {
			want := c.want
			switch form {
			case JSON:
				want = c.json
			case Styled: // colours pass: such text went through AppendClean before
				want = strings.ReplaceAll(want, `\033[31m`, "\x1b[31m")
			}
			for _, step := range []int{1, 2, 3, 1000} {
				tty, end := need.Terminal(t, 80)
				var b bytes.Buffer
				g := &guard{w: &b, file: tty, form: form}
				for rest := []byte(c.text); len(rest) > 0; {
					n := min(step, len(rest))
					if wrote, err := g.Write(rest[:n]); wrote != n || err != nil {
						t.Fatal(wrote, err)
					}
					rest = rest[n:]
				}
				if err := g.flush(); err != nil || b.String() != want {
					t.Errorf("form %d, %q by %d: %q, want %q (%v)", form, c.text, step, b.String(), want, err)
				}
				end()
			}
		}
	}
}

func TestAppendClean(t *testing.T) {
	for _, c := range hostile {
		want := strings.ReplaceAll(c.want, "\t", `\011`)
		if got := Clean(c.text); got != want {
			t.Errorf("%q: %q, want %q", c.text, got, want)
		}
	}
	if got := Clean("two\nlines"); got != `two\012lines` {
		t.Errorf("%q", got)
	}
}

// Only terminals are guarded, once, and what knows better can take the guard away.
func TestGuardOnTerminalsOnly(t *testing.T) {
	var file bytes.Buffer
	if Guard(&file) != any(&file) || Bare(&file) != any(&file) {
		t.Error("a buffer is guarded")
	}
	tty, end := need.Terminal(t, 80)
	g := Guard(tty)
	if !IsTerminal(g) || Bare(g) != any(tty) || Bare(GuardAs(g, JSON)) != any(tty) {
		t.Errorf("%T is not a guard before the terminal", g)
	}
	if f, ok := File(g); !ok || f != tty {
		t.Error("the file behind a guard")
	}
	fmt.Fprint(g, "a\x1b[1mb")
	fmt.Fprint(GuardAs(g, Styled), "c\x1b[1md\x1b[?25l\x1b]")
	if got := end(); got != `a\033[1mb`+"c\x1b[1md"+`\033[?25l\033]` {
		t.Errorf("%q", got)
	}
	l := GuardLog(&file)
	fmt.Fprint(l, "x\x1bc\n")
	if IsTerminal(l) || file.String() != `x\033c`+"\n" {
		t.Errorf("a log has %q", &file)
	}
	if _, ok := File((*os.File)(nil)); ok {
		t.Error("no file is a file")
	}
}

// A screen with colour lets colours through, one without does not; Bare lets all.
func TestScreenIsGuarded(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Color: "never", Form: Styled}, `\033[1mx\033c`},
		{Options{Color: "always", Form: Styled}, "\x1b[1mx" + `\033c`},
		{Options{Color: "always"}, `\033[1mx\033c`},
		{Options{Form: JSON}, `\u001b[1mx\u001bc`},
		{Options{Bare: true}, "\x1b[1mx\x1bc"},
		{Options{Pager: true, Getenv: env("PAGER", "cat -A | cat")}, `\033[1mx\033c` + "$\n"},
	} {
		tty, end := need.Terminal(t, 80)
		if c.o.Getenv == nil {
			c.o.Getenv = env()
		}
		_, s := Open(t.Context(), Guard(tty), tty, c.o)
		fmt.Fprint(s.Out, "\x1b[1mx\x1bc")
		if c.o.Pager {
			fmt.Fprintln(s.Out)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if got := end(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.o, got, c.want)
		}
	}
}

func FuzzGuard(f *testing.F) {
	for _, c := range hostile {
		f.Add([]byte(c.text), 1)
	}
	f.Fuzz(func(t *testing.T, text []byte, cut int) {
		cut = max(0, min(cut, len(text)))
		for _, form := range []Form{Text, JSON} {
			var b bytes.Buffer
			g := &guard{w: &b, form: form}
			_, _ = g.Write(text[:cut])
			_, _ = g.Write(text[cut:])
			_ = g.flush()
			if !utf8.Valid(b.Bytes()) {
				t.Fatalf("%q is no UTF-8", b.Bytes())
			}
			for _, r := range b.String() {
				if !shown(r) && r != '\n' && r != '\t' {
					t.Fatalf("%q shows %q", text, r)
				}
			}
		}
		quoted := append(append([]byte{'"'}, bytes.ToValidUTF8(bytes.Map(func(r rune) rune {
			if r < ' ' || r == '"' || r == '\\' {
				return -1
			}
			return r
		}, text), nil)...), '"')
		var b bytes.Buffer
		g := &guard{w: &b, form: JSON}
		_, _ = g.Write(quoted)
		var want, got string
		if json.Unmarshal(quoted, &want) != nil || json.Unmarshal(b.Bytes(), &got) != nil || want != got {
			t.Fatalf("%q is %q through the guard", quoted, b.Bytes())
		}
	})
}
