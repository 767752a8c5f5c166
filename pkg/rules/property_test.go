package rules

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/auditfleet/auditfleet/pkg/tables"
)

// anyRule draws any rule a kernel could list, likely ones more often.
func anyRule() *rapid.Generator[*Rule] {
	return rapid.Custom(func(t *rapid.T) *Rule {
		r := &Rule{
			List:   rapid.OneOf(rapid.SampledFrom([]List{ListExit, ListExit, ListTask, ListUser, ListExclude, ListFilesystem, ListIOUring}), rapid.Map(rapid.Uint32Range(0, 15), func(n uint32) List { return List(n) })).Draw(t, "list"),
			Action: rapid.SampledFrom([]Action{Never, Always, Always, 1, 3}).Draw(t, "action"),
		}
		switch rapid.IntRange(0, 3).Draw(t, "mask") {
		case 0:
			r.Mask = AllSyscalls()
			r.Mask[maskWords-1] = rapid.SampledFrom([]uint32{^uint32(0), 0xffff, 0}).Draw(t, "top")
		case 1:
		default:
			for _, n := range rapid.SliceOfN(rapid.OneOf(rapid.IntRange(0, 470), rapid.IntRange(0, MaxSyscall)), 1, 8).Draw(t, "calls") {
				r.Mask.set(n)
			}
		}
		r.Fields = rapid.SliceOfN(anyField(), 0, rapid.SampledFrom([]int{3, 6, MaxFields}).Draw(t, "most")).Draw(t, "fields")
		if len(r.Fields) == 0 {
			r.Fields = nil
		}
		return r
	})
}

func anyField() *rapid.Generator[Field] {
	return rapid.Custom(func(t *rapid.T) Field {
		known := rapid.Map(rapid.SampledFrom(fieldNames), func(n named[FieldID]) FieldID { return n.num })
		f := Field{
			ID: rapid.OneOf(known, known, known, rapid.Map(rapid.Uint32(), func(n uint32) FieldID { return FieldID(n) })).Draw(t, "field"),
			Op: rapid.OneOf(rapid.Just(Equal), rapid.Map(rapid.SampledFrom(opNames), func(n named[Operator]) Operator { return n.num })).Draw(t, "op"),
		}
		if f.ID.IsString() {
			f.Str = rapid.OneOf(
				rapid.SampledFrom([]string{"/etc/passwd", "/etc", "/etc/", "/a b", `/a\b`, `\ `, "/a>=b", "a!=b", "key=", "$'x'", "", "\x01", "a\x01b", "a\x01\x01b", "é", "\n", "-F", "#", "/a\tb", "/"}),
				rapid.Map(rapid.StringN(1, 20, 60), func(s string) string { return strings.ReplaceAll(s, "\x00", "") }),
				rapid.Map(rapid.SliceOfN(rapid.ByteRange(1, 255), 1, 12), func(b []byte) string { return string(b) }),
			).Draw(t, "string")
			return f
		}
		f.Value = rapid.OneOf(
			rapid.SampledFrom([]uint32{0, 1, 2, 15, 45, 46, 1000, 1<<31 - 1, 1 << 31, ^uint32(0), ^uint32(0) - 1, ^uint32(12), 0o100000, 0x64626720, 1300, 1423}),
			rapid.SampledFrom([]uint32{tables.ArchX86_64, tables.ArchI386, tables.ArchAArch64, tables.ArchRISCV64, 0x8}),
			rapid.Uint32(),
		).Draw(t, "value")
		return f
	})
}

// TestTextRoundTrip: every rule has a text, and the text loads that rule.
func TestTextRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyRule().Draw(t, "rule")
		checkText(t, r)
	})
}

type fataler interface {
	Fatalf(format string, args ...any)
}

func checkText(t fataler, r *Rule) {
	for _, env := range []Env{testEnv(), {Arch: tables.ArchAArch64}} {
		line := r.Text(env, TextOptions{})
		if hasControl(line) {
			t.Fatalf("control bytes in the listing %q", line)
		}
		args := Args(SplitLine(line))
		c, err := ParseArgs(args, env)
		if err != nil {
			t.Fatalf("%+v is listed as %q, which is refused: %v", r, line, err)
		}
		if back := c.Rule(); back == nil || !back.Equal(r) {
			t.Fatalf("%+v is listed as %q, which is %+v", r, line, back)
		}
		if again := c.Rule().Text(env, TextOptions{}); again != line {
			t.Fatalf("listed as %q, then as %q", line, again)
		}
	}
}

// TestWireRoundTrip: bytes → rule → bytes.
func TestWireRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyRule().Draw(t, "rule")
		r.Prepend = rapid.Bool().Draw(t, "prepend")
		b, err := r.Marshal()
		if err != nil {
			t.Fatalf("%v", err)
		}
		back, err := Unmarshal(append(b, 0, 0, 0)) // padding of a netlink message
		if err != nil {
			t.Fatalf("%v", err)
		}
		b2, err := back.Marshal()
		if err != nil || !bytes.Equal(b, b2) || !back.Equal(r) || back.Prepend != r.Prepend {
			t.Fatalf("%+v came back as %+v (%v)", r, back, err)
		}
	})
}

func FuzzParseArgs(f *testing.F) {
	for _, r := range loadRecorded(f) {
		f.Add(JoinLine(r.Args))
	}
	for _, line := range []string{`-w /a\ b -p wa`, "-F $'f105=\\x0a'", "-a always,exit -S @none", "-l -k x", "-D -k", "--sig=HUP", "-", "--", "-kx", "-a", "-S,", "-m x"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		args := Args(SplitLine(line))
		c, err := ParseArgs(args, testEnv())
		for _, e := range Explain(args, testEnv()) {
			if _, err := e.JSON(); err != nil {
				t.Fatal(err)
			}
		}
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Msg == "" || e.Arg >= max(1, len(args)) {
				t.Fatalf("%q: %+v", line, err)
			}
			e.Detail(args)
			e.Column(SplitLine(line))
			return
		}
		r := c.Rule()
		if r == nil {
			return
		}
		b, err := r.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		back, err := Unmarshal(b)
		if err != nil || !back.Equal(r) {
			t.Fatalf("%q is %+v, sent as %+v (%v)", line, r, back, err)
		}
		if strings.IndexByte(line, 0) < 0 {
			checkText(t, r)
		}
	})
}

func FuzzUnmarshal(f *testing.F) {
	for _, r := range loadRecorded(f)[:200] {
		if c, err := ParseArgs(r.Args, testEnv()); err == nil && c.Rule() != nil {
			b, _ := c.Rule().Marshal()
			f.Add(b)
			f.Add(b[:len(b)-1])
		}
	}
	f.Add(make([]byte, headerLen))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Unmarshal(b)
		if err != nil {
			return
		}
		out, err := r.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		back, err := Unmarshal(out)
		if err != nil || !back.Equal(r) {
			t.Fatalf("%+v came back as %+v (%v)", r, back, err)
		}
		r.Text(testEnv(), TextOptions{Interpret: true})
		checkText(t, r)
	})
}

func TestInterpreted(t *testing.T) {
	arg := func(arch uint32, syscall, arg int, value uint32) string {
		if arch == tables.ArchX86_64 && syscall == 257 && arg == 2 && value == 0x42 {
			return "O_RDWR|O_CREAT"
		}
		return ""
	}
	for line, want := range map[string]string{
		"-a always,exit -F arch=b64 -S openat -F a2=0x42 -F a0=255 -F auid=-1": "-a always,exit -F arch=x86_64 -S openat -F a2=O_RDWR|O_CREAT -F a0=0xff -F auid=unset",
		"-a always,exit -F arch=b64 -S open,openat -F a2=0x42 -F sessionid=-1": "-a always,exit -F arch=x86_64 -S open,openat -F a2=0x42 -F sessionid=unset",
		"-a always,exit -F arch=b32 -S openat -F a2=0x42 -F auid!=-1":          "-a always,exit -F arch=i386 -S openat -F a2=0x42 -F auid!=unset",
		"-a always,exit -S openat -F a2=0x42":                                  "-a always,exit -S openat -F a2=0x42",
		"-w /etc/passwd -p wa -k x":                                            "-w /etc/passwd -p wa -k x",
		"-a always,exit -F arch=b64 -S all -F a0=0xAB":                         "-a always,exit -F arch=x86_64 -S all -F a0=0xAB",
	} {
		if got := mustParse(t, line).Text(testEnv(), TextOptions{Interpret: true, Argument: arg}); got != want {
			t.Errorf("%s\n got  %s\n want %s", line, got, want)
		}
	}
}
