package checkpoint_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/auditfleet/auditfleet/pkg/checkpoint"
)

const storeID = "00112233445566778899aabbccddeeff"

var at = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// keys makes a key and returns both halves.
func keys(t testing.TB, name string) (note.Signer, note.Verifiers) {
	t.Helper()
	secret, public, err := checkpoint.Generate(name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := checkpoint.ReadSigner(secret + "\n")
	if err != nil {
		t.Fatal(err)
	}
	v, err := checkpoint.ReadVerifiers("# the key\n\n" + public + "\n")
	if err != nil {
		t.Fatal(err)
	}
	again, err := checkpoint.Public(secret)
	if err != nil || again != public {
		t.Fatalf("the public part of a secret key is %q, %v; want %q", again, err, public)
	}
	return s, note.VerifierList(v...)
}

func sample(origin string) checkpoint.Checkpoint {
	return checkpoint.Checkpoint{Origin: origin, Size: 7, Root: tlog.Hash(sha256.Sum256([]byte("root"))), Time: at, Store: storeID}
}

func sign(t testing.TB, c checkpoint.Checkpoint, s note.Signer) []byte {
	t.Helper()
	text, err := checkpoint.Sign(c, s)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestSignOpen(t *testing.T) {
	s, v := keys(t, "collector1")
	want := sample("collector1")
	text := sign(t, want, s)
	got, err := checkpoint.Open(text, v)
	if err != nil || got != want {
		t.Fatalf("got %+v, %v; want %+v", got, err, want)
	}
	later := want
	later.Epoch = 3
	if got, err := checkpoint.Open(sign(t, later, s), v); err != nil || got != later {
		t.Fatalf("got %+v, %v; want %+v", got, err, later)
	}
	if got, err := checkpoint.Parse(text); err != nil || got != want {
		t.Fatalf("unverified: got %+v, %v; want %+v", got, err, want)
	}
	// Each byte of what is signed counts.
	for i := range text {
		bad := []byte(string(text))
		bad[i] ^= 1
		if c, err := checkpoint.Open(bad, v); err == nil {
			t.Fatalf("byte %d changed: read as %+v", i, c)
		}
	}
}

// The bits of a signature's last digit that count for nothing are zero, so one checkpoint has one text.
func TestLastDigitOfASignature(t *testing.T) {
	for range 4 {
		s, v := keys(t, "collector1")
		text := sign(t, sample("collector1"), s)
		last := bytes.LastIndexByte(text, '=') - 1
		for _, digit := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
			bad := bytes.Clone(text)
			bad[last] = digit
			if c, err := checkpoint.Open(bad, v); (err == nil) != bytes.Equal(bad, text) {
				t.Fatalf("%s read as %+v, %v", bad, c, err)
			}
		}
	}
}

// What comes behind the known lines, and signatures of others, are of later versions and of witnesses.
func TestOpenMoreThanIsKnown(t *testing.T) {
	s, v := keys(t, "collector1")
	other, _ := keys(t, "witness")
	want := sample("collector1")
	text, err := note.Sign(&note.Note{Text: want.Text() + "later than this\n"}, other, s)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := checkpoint.Open(text, v); err != nil || got != want {
		t.Fatalf("got %+v, %v", got, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	s, v := keys(t, "collector1")
	other, otherKey := keys(t, "collector1")
	stranger, strangerKey := keys(t, "stranger")
	good := sample("collector1")
	text := sign(t, good, s)
	signed := func(body string, by ...note.Signer) []byte {
		out, err := note.Sign(&note.Note{Text: body}, by...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	body := good.Text()
	edit := func(old, new string) []byte { return signed(strings.Replace(body, old, new, 1), s) }
	wrongSig := []byte(strings.Replace(string(text), "\n7\n", "\n8\n", 1))
	for _, tt := range []struct {
		name string
		text []byte
		keys note.Verifiers
		want error
	}{
		{"nothing", nil, v, checkpoint.ErrFormat},
		{"garbage", []byte("\x00\xff\x80"), v, checkpoint.ErrFormat},
		{"no signature", []byte(body), v, checkpoint.ErrFormat},
		{"too long", []byte(strings.Repeat("a", checkpoint.MaxBytes+1)), v, checkpoint.ErrFormat},
		{"size changed", wrongSig, v, checkpoint.ErrSignature},
		{"another key of the same name", text, otherKey, checkpoint.ErrKey},
		{"signed by another key of the same name", sign(t, good, other), v, checkpoint.ErrKey},
		{"a key of another name, which signed for this log", signed(body, stranger), strangerKey, checkpoint.ErrKey},
		{"no keys", text, note.VerifierList(), checkpoint.ErrKey},
		{"nil keys", text, nil, checkpoint.ErrKey},
		{"size with a zero before it", edit("\n7\n", "\n07\n"), v, checkpoint.ErrFormat},
		{"negative size", edit("\n7\n", "\n-7\n"), v, checkpoint.ErrFormat},
		{"no number", edit("\n7\n", "\nseven\n"), v, checkpoint.ErrFormat},
		{"short root", edit(good.Root.String(), "AAAA"), v, checkpoint.ErrFormat},
		{"time in another zone", edit("10:00:00Z", "11:00:00+01:00"), v, checkpoint.ErrFormat},
		{"no time", edit("time ", "tame "), v, checkpoint.ErrFormat},
		{"no store", edit("store ", "shop "), v, checkpoint.ErrFormat},
		{"epoch 0", edit(storeID+"\n", storeID+"\nepoch 0\n"), v, checkpoint.ErrFormat},
		{"store in capitals", edit(storeID, strings.ToUpper(storeID)), v, checkpoint.ErrFormat},
		{"a note of something else", signed("hello\n", s), v, checkpoint.ErrFormat},
	} {
		if c, err := checkpoint.Open(tt.text, tt.keys); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %+v, %v; want %v", tt.name, c, err, tt.want)
		}
	}
	if _, err := checkpoint.Sign(good, stranger); err == nil {
		t.Error("a key signed for the log of another one")
	}
}

func TestKeysRefused(t *testing.T) {
	secret, public, err := checkpoint.Generate("a")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "two words", "a+b", "a\x1b[2J", strings.Repeat("a", 256)} {
		if _, _, err := checkpoint.Generate(name); err == nil {
			t.Errorf("a key was made under the name %.20q", name)
		}
	}
	for _, text := range []string{"", "# nothing", "nonsense", public + "x", secret} {
		if _, err := checkpoint.ReadVerifiers(text); !errors.Is(err, checkpoint.ErrNoKey) {
			t.Errorf("%.20q was read as a public key: %v", text, err)
		}
	}
	for _, text := range []string{"", "nonsense", public, secret + "x", secret[:len(secret)-4]} {
		_, err := checkpoint.ReadSigner(text)
		if !errors.Is(err, checkpoint.ErrNoKey) {
			t.Errorf("%.20q was read as a secret key: %v", text, err)
		} else if strings.Contains(err.Error(), secret[len(secret)-20:]) {
			t.Error("an error shows the secret key")
		}
		if _, err := checkpoint.Public(text); !errors.Is(err, checkpoint.ErrNoKey) {
			t.Errorf("%.20q has a public part: %v", text, err)
		}
	}
}

// The bytes in FORMAT.md are what is written.
func TestFormatExample(t *testing.T) {
	page, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	block := func(title string) string {
		_, rest, ok := strings.Cut(string(page), "```"+title+"\n")
		if !ok {
			t.Fatalf("no block %q in FORMAT.md", title)
		}
		text, _, _ := strings.Cut(rest, "```")
		return text
	}
	v, err := checkpoint.ReadVerifiers(block("key"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := checkpoint.Open([]byte(block("checkpoint")), note.VerifierList(v...))
	if err != nil || got.Size != 7 || got.Origin != "collector1" || !got.Time.Equal(at) {
		t.Fatalf("got %+v, %v", got, err)
	}
}

func FuzzOpen(f *testing.F) {
	s, v := keys(f, "collector1")
	f.Add(sign(f, sample("collector1"), s))
	f.Add([]byte("collector1\n7\n\n\n— collector1 AAAA\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if c, err := checkpoint.Open(text, v); err == nil {
			if again, err := checkpoint.Open(text, v); err != nil || again != c {
				t.Fatalf("read twice: %+v, then %+v, %v", c, again, err)
			}
		}
		c, err := checkpoint.Parse(text)
		if err != nil {
			return
		}
		// What can be read can be written, and is the same then.
		again, err := checkpoint.Open(sign(t, checkpoint.Checkpoint{Origin: "collector1", Size: c.Size, Root: c.Root, Time: c.Time, Store: c.Store, Epoch: c.Epoch}, s), v)
		if c.Origin = "collector1"; err != nil || again != c {
			t.Fatalf("%+v is read back as %+v, %v", c, again, err)
		}
	})
}
