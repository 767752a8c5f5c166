package authority

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/pkg/pki"
)

var someEntries = []Entry{
	{Serial: "4f00", Fingerprint: strings.Repeat("ab", 32), Name: "web1", NotBefore: noon, NotAfter: noon.Add(ninety), Roles: pki.Send},
	{Serial: "51", Fingerprint: strings.Repeat("cd", 32), Name: "ops.example.com", NotBefore: noon, NotAfter: noon.Add(time.Hour), Roles: pki.Read | pki.Admin, Revoked: noon.Add(time.Minute)},
}

var someTokens = []TokenEntry{
	{ID: "0a0b0c0d0e0f", Host: "web1", Roles: pki.Send, Created: noon, Expires: noon.Add(time.Hour), hash: strings.Repeat("12", 32), life: ninety},
	{ID: "1a0b0c0d0e0f", Host: "web2", Roles: pki.Send, Created: noon, Expires: noon.Add(time.Hour), hash: strings.Repeat("34", 32), life: ninety, Used: noon.Add(time.Minute), Serial: "4f00"},
	{ID: "2a0b0c0d0e0f", Host: "web3", Roles: pki.Read, Created: noon, Expires: noon.Add(time.Hour), hash: strings.Repeat("56", 32), life: time.Hour, Revoked: noon.Add(time.Second)},
}

var allowUnexported = cmp.AllowUnexported(TokenEntry{})

const someCA = "ca0000"

// TestFormat decodes the examples in FORMAT.md, and writes them.
func TestFormat(t *testing.T) {
	doc, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(doc), "```")
	if len(blocks) != 5 {
		t.Fatalf("%d examples", len(blocks)/2)
	}
	index, tokens := unmarked(blocks[1]), unmarked(blocks[3])
	if d := cmp.Diff(index, string(formatIndex(someCA, someEntries))); d != "" {
		t.Errorf("index: %s", d)
	}
	if d := cmp.Diff(tokens, string(formatTokens(someCA, someTokens))); d != "" {
		t.Errorf("tokens: %s", d)
	}
	if list, err := parseIndex("index", someCA, []byte(index)); err != nil || cmp.Diff(someEntries, list) != "" {
		t.Errorf("%v: %s", err, cmp.Diff(someEntries, list))
	}
	if list, err := parseTokens("tokens", someCA, []byte(tokens)); err != nil || cmp.Diff(someTokens, list, allowUnexported) != "" {
		t.Errorf("%v: %s", err, cmp.Diff(someTokens, list, allowUnexported))
	}
}

// unmarked returns an example without the arrows that stand for its tabs.
func unmarked(text string) string {
	return strings.ReplaceAll(strings.TrimPrefix(text, "\n"), "→", "\t")
}

// TestDamage changes each byte of an index, and cuts it at each: that is never overlooked.
func TestDamage(t *testing.T) {
	whole := formatIndex(someCA, someEntries)
	for i := range whole {
		for _, change := range []byte{1, 0x80, '\n' ^ whole[i], '\t' ^ whole[i]} {
			bad := bytes.Clone(whole)
			if bad[i] ^= change; change == 0 {
				continue
			}
			if list, err := parseIndex("index", someCA, bad); err == nil {
				t.Errorf("byte %d changed to %q: %v", i, bad[i], list)
			}
		}
		if _, err := parseIndex("index", someCA, whole[:i]); err == nil {
			t.Errorf("cut at %d: overlooked", i)
		}
	}
	for text, want := range map[string]error{
		"":     ErrForeign,
		"web1": ErrForeign,
		strings.Replace(string(whole), "\t1\t", "\t2\t", 1):            ErrNewer,
		string(whole) + "x\n":                                          ErrDamaged,
		string(formatTable(indexKind, someCA, [][]string{{"a", "b"}})): ErrDamaged,
	} {
		_, err := parseIndex("index", someCA, []byte(text))
		var where *FileError
		if !errors.Is(err, want) || !errors.As(err, &where) || where.Path != "index" {
			t.Errorf("%q: %v, want %v", text, err, want)
		}
	}
	if _, err := parseIndex("index", "another", whole); !errors.Is(err, ErrForeign) {
		t.Errorf("another CA's: %v", err)
	}
}

func FuzzIndex(f *testing.F) {
	f.Add(formatIndex(someCA, nil))
	f.Add(formatIndex(someCA, someEntries))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := parseIndex("f", someCA, data)
		if err != nil {
			return
		}
		again, err := parseIndex("f", someCA, formatIndex(someCA, list))
		if err != nil || cmp.Diff(list, again) != "" {
			t.Errorf("%v: %s", err, cmp.Diff(list, again))
		}
	})
}

func FuzzTokens(f *testing.F) {
	f.Add(formatTokens(someCA, someTokens))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := parseTokens("f", someCA, data)
		if err != nil {
			return
		}
		again, err := parseTokens("f", someCA, formatTokens(someCA, list))
		if err != nil || cmp.Diff(list, again, allowUnexported) != "" {
			t.Errorf("%v: %s", err, cmp.Diff(list, again, allowUnexported))
		}
	})
}

func FuzzToken(f *testing.F) {
	token := newToken("web1", strings.Repeat("ab", 32)).Reveal()
	f.Add(token)
	f.Add(token[:60] + "\r\n" + token[60:])
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseToken(text)
		if err != nil {
			return
		}
		if again := token.Reveal(); again != strings.Join(strings.Fields(text), "") {
			t.Errorf("%q becomes %q", text, again)
		}
	})
}
