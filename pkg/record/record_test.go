package record

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/internal/golden"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

func lines(t testing.TB, names ...string) [][]byte {
	t.Helper()
	var all [][]byte
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(b) {
			all = append(all, bytes.TrimSuffix(line, []byte("\n")))
		}
	}
	return all
}

var logs = []string{"samples.log", "kernel-raw.log", "kernel-enriched.log"}

// dump shows everything a record says, one part a line.
func dump(r *Record) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d %d:%d", r.TypeName, r.Type, r.Ms(), r.Serial)
	if r.Node != nil {
		fmt.Fprintf(&b, " on %s", r.Node)
	}
	if r.Err != nil {
		fmt.Fprintf(&b, " (%v)", r.Err)
	}
	for _, part := range []struct {
		name   string
		fields Fields
	}{{"own", r.Fields()}, {"msg", r.MsgFields()}, {"enriched", r.EnrichedFields()}} {
		for first := true; ; first = false {
			f, ok := part.fields.Next()
			if !ok {
				break
			}
			if first {
				fmt.Fprintf(&b, "\n  %s", part.name)
			}
			fmt.Fprintf(&b, " [%s", f.Name)
			switch {
			case string(f.Name) == "msg" && f.Quote != '"':
				b.WriteString(" …]")
			case f.Quote != 0:
				fmt.Fprintf(&b, "=%c%s%c]", f.Quote, f.Value, f.Quote)
			default:
				fmt.Fprintf(&b, "=%s]", f.Value)
			}
		}
	}
	b.WriteByte('\n')
	return b.String()
}

// TestSamples reads records of every kind, written by hand after real ones, and
// compares all that is found with a file that was checked by eye.
func TestSamples(t *testing.T) {
	var got strings.Builder
	for _, line := range lines(t, "samples.log") {
		var r Record
		if err := r.Parse(line); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		got.WriteString(dump(&r))
	}
	golden.Compare(t, "testdata/samples.golden", got.String())
}

// TestRealKernel reads what stock auditd 3.0.9 logged of a Linux 6.18 kernel.
func TestRealKernel(t *testing.T) {
	for _, name := range []string{"kernel-raw.log", "kernel-enriched.log"} {
		all := lines(t, name)
		if len(all) < 150 {
			t.Fatalf("%s has %d records", name, len(all))
		}
		for i, line := range all {
			var r Record
			if err := r.Parse(line); err != nil {
				t.Fatalf("%s:%d: %v", name, i+1, err)
			}
			if r.Type == 0 {
				t.Errorf("%s:%d: unknown type %s", name, i+1, r.TypeName)
			}
			if enriched := name == "kernel-enriched.log"; enriched != (string(r.Node) == "web1.example") {
				t.Errorf("%s:%d: node %q", name, i+1, r.Node)
			}
			if strings.HasPrefix(name, "kernel-raw") && r.Enriched != nil {
				t.Errorf("%s:%d: enriched %q", name, i+1, r.Enriched)
			}
			f := r.Fields()
			for {
				field, ok := f.Next()
				if !ok {
					break
				}
				if bytes.ContainsAny(field.Value, " \x1d") && field.Quote == 0 {
					t.Errorf("%s:%d: %s has the bare value %q", name, i+1, field.Name, field.Value)
				}
			}
		}
	}
}

// TestNestedNeverOverrides is the point of keeping msg='…' apart: auditctl -m
// lets root's programs, and any with CAP_AUDIT_WRITE, write what they like.
func TestNestedNeverOverrides(t *testing.T) {
	for _, line := range []string{
		`type=USER msg=audit(1.000:1): pid=1 uid=500 msg='x' uid=0 exe="/a" res=success'`,
		`type=USER msg=audit(1.000:1): pid=1 uid=500 msg='uid=0'`,
		`type=USER msg=audit(1.000:1): pid=1 uid=500 msg=uid=0 res=success`,
		`type=USER msg=audit(1.000:1): pid=1 uid=500 msg='uid=0 and cut off`,
		`type=USER msg=audit(1.000:1): pid=1 uid=500 msg='a "uid=0 b' res=success` + "\x1dUID=\"u\" uid=0",
	} {
		var r Record
		if err := r.Parse([]byte(line)); err != nil {
			t.Fatal(err)
		}
		f := r.Fields()
		n := 0
		for {
			field, ok := f.Next()
			if !ok {
				break
			}
			if string(field.Name) == "uid" {
				n++
				if string(field.Value) != "500" {
					t.Errorf("%s: own uid=%s", line, field.Value)
				}
			}
		}
		if n != 1 {
			t.Errorf("%s: %d own uid fields", line, n)
		}
	}
}

func TestDamaged(t *testing.T) {
	for _, tt := range []struct {
		line string
		err  error
		want string // of dump
	}{
		{"", ErrNoHeader, " 0 0:0"},
		{"garbage", ErrNoHeader, " 0 0:0"},
		{"node=", ErrNoHeader, " 0 0:0 on "},
		{"node=a type=PATH", ErrNoHeader, "PATH 1302 0:0 on a"},
		{"type=PATH a=1", ErrNoHeader, "PATH 1302 0:0\n  own [a=1]"},
		{"msg=audit(5.250:7): a=1", ErrNoType, " 0 5250:7\n  own [a=1]"},
		{"<13>Jan 1 host: x type=PATH msg=audit(5.250:7): a=1", ErrNoHeader, " 0 0:0\n  own [type=PATH] [msg …]\n  msg [a=1]"},
		{"type=NEWS msg=audit(5.250:7): a=1", nil, "NEWS 0 5250:7\n  own [a=1]"},
		{"type=PATH odd msg=audit(5.250:7): a=1", nil, "PATH 1302 5250:7\n  own [a=1]"},
		{"type=PATH msg=audit(", ErrBadTime, "PATH 1302 0:0"},
		{"type=PATH msg=audit(x.250:7): a=1", ErrBadTime, "PATH 1302 0:0\n  own [a=1]"},
		{"type=PATH msg=audit(5:7): a=1", ErrBadTime, "PATH 1302 5000:0\n  own [a=1]"},
		{"type=PATH msg=audit(-5.250:7): a=1", ErrBadTime, "PATH 1302 0:0\n  own [a=1]"},
		{"type=PATH msg=audit(5.1000:7): a=1", ErrBadTime, "PATH 1302 5000:0\n  own [a=1]"},
		{"type=PATH msg=audit(99999999999999.000:7): a=1", ErrBadTime, "PATH 1302 0:0\n  own [a=1]"},
		{"type=PATH msg=audit(99999999999999999999999.000:7): a=1", ErrBadTime, "PATH 1302 0:0\n  own [a=1]"},
		{"type=PATH msg=audit(5.250", ErrBadSerial, "PATH 1302 5250:0"},
		{"type=PATH msg=audit(5.250:", ErrBadSerial, "PATH 1302 5250:0"},
		{"type=PATH msg=audit(5.250:7", ErrBadSerial, "PATH 1302 5250:0"},
		{"type=PATH msg=audit(5.250:7)a=1", ErrBadSerial, "PATH 1302 5250:0\n  own [)a=1]"},
		{"type=PATH msg=audit(5.250:99999999999999999999): a=1", ErrBadSerial, "PATH 1302 5250:0\n  own [a=1]"},
		{"type=PATH msg=audit(5.250:18446744073709551615):", nil, "PATH 1302 5250:18446744073709551615"},
		{"type=PATH msg=audit(5.250:7):a=1", nil, "PATH 1302 5250:7\n  own [a=1]"},
		{"type=PATH msg=audit(5.250:7): =1 ==2 a= b=\"x c=\"d e\" f=\"", nil,
			"PATH 1302 5250:7\n  own [a=] [b=\"x c=\"] [f=\"]"},
		{"type=PATH msg=audit(5.250:7): f=\"open g=1", nil, "PATH 1302 5250:7\n  own [f=\"open] [g=1]"},
		{"type=PATH msg=audit(5.250:7): a={ x y=1\x1dS={ x a=1", nil, "PATH 1302 5250:7\n  own [a={] [y=1]\n  enriched [S={ x a=1]"},
		{"type=PATH msg=audit(5.250:7): a='x y' b='it's c=1", nil, "PATH 1302 5250:7\n  own [a='x y'] [b='it's] [c=1]"},
		{"type=USER msg=audit(5.250:7): msg='a={ x } (b='c d', e='f g') tty=(none) h=(i) j=k) res=(x, =, ('", nil,
			"USER 1005 5250:7\n  own [msg …]\n  msg [a={] [b='c d'] [e='f g'] [tty=(none)] [h=(i)] [j=k] [res=(x]"},
		{"type=PATH msg=audit(5.250:7): a=1\x1dGID=\"domain users@example.com\" UID=DOM\\some user  EUID=\"a \"b\" c=d\" OLD-AUID=\"x ", nil,
			"PATH 1302 5250:7\n  own [a=1]\n  enriched [GID=\"domain users@example.com\"] [UID=DOM\\some user] [EUID=\"a \"b\" c=d\"] [OLD-AUID=\"x]"},
		{"type=PATH msg=audit(5.250:7): a=1\x1dUID=\"a GID=\"b c\" SADDR={ x=y } ARCH=", nil,
			"PATH 1302 5250:7\n  own [a=1]\n  enriched [UID=\"a] [GID=\"b c\"] [SADDR={ x=y }] [ARCH=]"},
		{"type=PATH msg=audit(5.250:7): a=1\x1d\x1dB=2", nil, "PATH 1302 5250:7\n  own [a=1]\n  enriched [\x1dB=2]"},
	} {
		var r Record
		err := r.Parse([]byte(tt.line))
		if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
			t.Errorf("%q: error %v, want %v", tt.line, err, tt.err)
		}
		if !errors.Is(r.Err, tt.err) || (r.Err == nil) != (err == nil) {
			t.Errorf("%q: Err %v, returned %v", tt.line, r.Err, err)
		}
		r.Err = nil
		if diff := cmp.Diff(tt.want+"\n", dump(&r)); diff != "" {
			t.Errorf("%q: (-want +got)\n%s", tt.line, diff)
		}
	}
}

// TestID has the spellings of an id that is not known beside those of known ones.
func TestID(t *testing.T) {
	for v, want := range map[string]int64{
		"0": 0, "1000": 1000, "2147483648": 1 << 31, "4294967294": 1<<32 - 2, "4294967295": 1<<32 - 1, "-1": 1<<32 - 1, "-2": 1<<32 - 2,
		"007": 7, "500,": 500, "0)": 0, "0):'": 0, "0'": 0,
		"": -1, "-": -1, "?": -1, "n/a": -1, "unset": -1, "(null)": -1, "(none)": -1, "root": -1, "0x1f": -1, "0junk": -1, "1001.5": -1, "1 2": -1,
		"4294967296": -1, "99999999999999999999999": -1, "-2147483649": -1, "--1": -1, "+1": -1, " 1": -1, ",": -1,
	} {
		if id, ok := ID([]byte(v)); ok != (want >= 0) || ok && int64(id) != want {
			t.Errorf("%q: %d, %v", v, id, ok)
		}
	}
}

func TestNewline(t *testing.T) {
	var r Record
	if err := r.Parse([]byte("type=EOE msg=audit(1.000:1): \n")); err != nil {
		t.Fatal(err)
	}
	if string(r.Raw) != "type=EOE msg=audit(1.000:1): " {
		t.Errorf("Raw %q", r.Raw)
	}
	if err := r.Parse([]byte("type=CWD msg=audit(1.000:1): cwd=\"/\"\r\n")); err != nil {
		t.Fatal(err)
	}
	if string(r.Raw) != "type=CWD msg=audit(1.000:1): cwd=\"/\"\r" {
		t.Errorf("Raw %q", r.Raw)
	}
}

func TestLong(t *testing.T) {
	for _, n := range []int{MaxLength, 100 * MaxLength} {
		value := strings.Repeat("61", n/2)
		var r Record
		if err := r.Parse([]byte("type=PROCTITLE msg=audit(1.000:1): proctitle=" + value)); err != nil {
			t.Fatal(err)
		}
		f, ok := r.Get("proctitle")
		if !ok || string(f.AppendDecoded(nil)) != strings.Repeat("a", n/2) {
			t.Errorf("proctitle of %d bytes is lost", n)
		}
	}
}

func TestDecoded(t *testing.T) {
	for _, tt := range []struct {
		field Field
		want  string
	}{
		{Field{Value: []byte("ls"), Quote: '"'}, "ls"},
		{Field{Value: []byte("6162"), Quote: '"'}, "6162"},
		{Field{Value: []byte("6162")}, "ab"},
		{Field{Value: []byte("C3BC00")}, "ü\x00"},
		{Field{Value: []byte("61016220")}, "a\x01b "},
		{Field{Value: []byte("616")}, "616"},
		{Field{Value: []byte("c3bc")}, "c3bc"},
		{Field{Value: []byte(`6162"`)}, "ab"},
		{Field{Value: []byte(`6162"x`)}, "ab"},
		{Field{Value: []byte("6162)")}, "ab"},
		{Field{Value: []byte("6162'")}, "ab"},
		{Field{Value: []byte(`616"`)}, `616"`},
		{Field{Value: []byte(`"`)}, `"`},
		{Field{Value: []byte("6162x")}, "6162x"},
		{Field{Value: []byte("6162/")}, "6162/"},
		{Field{Value: []byte(`6162"`), Quote: '\''}, `6162"`},
		{Field{Value: []byte("(null)")}, "(null)"},
		{Field{Value: []byte("?")}, "?"},
		{Field{}, ""},
	} {
		if got := string(tt.field.AppendDecoded([]byte("x"))); got != "x"+tt.want {
			t.Errorf("%q decodes to %q, want %q", tt.field.Value, got, "x"+tt.want)
		}
	}
}

// TestFormat decodes the examples of FORMAT.md.
func TestFormat(t *testing.T) {
	doc, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, examples, ok := strings.Cut(string(doc), "## Examples")
	if !ok {
		t.Fatal("FORMAT.md has no examples")
	}
	var got []string
	for line := range strings.Lines(examples) {
		if strings.Contains(line, "msg=audit(") && !strings.Contains(line, "`") {
			var r Record
			if err := r.Parse([]byte(line)); err != nil {
				t.Fatal(err)
			}
			got = append(got, dump(&r))
		}
	}
	want := []string{
		"PATH 1302 1795337834830:6848\n  own [item=1] [name=2F746D702F61206220] [nametype=CREATE]\n",
		"USER_AUTH 1100 1626611363731:348502 on web1\n  own [pid=7] [uid=0] [msg …]\n" +
			"  msg [acct=\"o'brien\"] [uid=9] [res=failed]\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestNoAllocation(t *testing.T) {
	all := lines(t, logs...)
	if n := testing.AllocsPerRun(10, func() {
		for _, line := range all {
			var r Record
			_ = r.Parse(line)
			for _, f := range []Fields{r.Fields(), r.MsgFields(), r.EnrichedFields()} {
				for ok := true; ok; {
					_, ok = f.Next()
				}
			}
			_, _ = r.Get("key")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// inside says whether part, unless empty, is a piece of whole's own memory.
func inside(part, whole []byte) bool {
	if len(part) == 0 {
		return true
	}
	if len(whole) == 0 {
		return false
	}
	p, w := uintptr(unsafe.Pointer(&part[0])), uintptr(unsafe.Pointer(&whole[0]))
	return p >= w && p+uintptr(len(part)) <= w+uintptr(len(whole)) && cap(part) == len(part)
}

// check tells what is wrong with what Parse and the walks found in line.
func check(line []byte) error {
	var r Record
	before := bytes.Clone(line)
	err := r.Parse(line)
	if !bytes.Equal(line, before) {
		return errors.New("the line was changed")
	}
	if want := bytes.TrimSuffix(line, []byte("\n")); !bytes.Equal(r.Raw, want) {
		return fmt.Errorf("Raw is %q", r.Raw)
	}
	if name := tables.TypeNameBytes(r.Type); !inside(r.TypeName, r.Raw) && !bytes.Equal(r.TypeName, name) {
		return fmt.Errorf("the type is %q, of %d", r.TypeName, r.Type)
	}
	for _, part := range [][]byte{r.Node, r.Body, r.Enriched} {
		if !inside(part, r.Raw) {
			return fmt.Errorf("%q does not lie in the line", part)
		}
	}
	if r.Sec < 0 || r.Milli < 0 || r.Milli > 999 || r.Ms() < 0 {
		return fmt.Errorf("time %d.%d", r.Sec, r.Milli)
	}
	// Header, body, separator and tail, put together again, are the line.
	tail := len(r.Body)
	if r.Enriched != nil {
		tail += 1 + len(r.Enriched)
	}
	raw := bytes.TrimSuffix(r.Raw, []byte("\r"))
	again := append([]byte(nil), raw[:len(raw)-tail]...)
	again = append(again, r.Body...)
	if r.Enriched != nil {
		again = append(append(again, Separator), r.Enriched...)
	}
	if !bytes.Equal(again, raw) {
		return fmt.Errorf("put together again it is %q", again)
	}
	if err == nil && r.Node == nil && inside(r.TypeName, r.Raw) && !bytes.Contains(line, []byte("type="+string(r.TypeName))) {
		return fmt.Errorf("type %q", r.TypeName)
	}
	for _, f := range []Fields{r.Fields(), r.MsgFields(), r.EnrichedFields()} {
		if err := checkFields(f); err != nil {
			return err
		}
	}
	return nil
}

func checkFields(f Fields) error {
	from := 0
	for {
		field, ok := f.Next()
		if !ok {
			return nil
		}
		if len(field.Name) == 0 || bytes.ContainsAny(field.Name, " =") {
			return fmt.Errorf("field name %q", field.Name)
		}
		if !inside(field.Name, f.buf) || !inside(field.Value, f.buf) {
			return fmt.Errorf("%q=%q lies outside", field.Name, field.Value)
		}
		if f.pos <= from || f.pos > len(f.buf) {
			return fmt.Errorf("no way forward from %d to %d", from, f.pos)
		}
		written := string(field.Name) + "="
		if field.Quote != 0 {
			written += string(field.Quote)
		}
		if got := f.buf[from:f.pos]; !bytes.Contains(got, append([]byte(written), field.Value...)) {
			return fmt.Errorf("%q%q is not in %q", written, field.Value, got)
		}
		from = f.pos
	}
}
