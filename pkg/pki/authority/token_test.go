package authority

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
	"github.com/auditfleet/auditfleet/pkg/pki"
)

func newTokenFor(t testing.TB, ca *CA, host string) Token {
	t.Helper()
	token, err := ca.NewToken(t.Context(), request(host), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// TestToken gets a certificate with one, and tells what is wrong with others.
func TestToken(t *testing.T) {
	dir := t.TempDir()
	clock := noon
	ca := newAuthority(t, fsys.OS, dir)
	ca.cfg.Now = func() time.Time { return clock }
	r := request("web1.example.com")
	r.Roles = pki.Send | pki.Admin
	token, err := ca.NewToken(t.Context(), r, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	text := token.Reveal()
	if kept, err := os.ReadFile(filepath.Join(dir, TokensFile)); err != nil || strings.Contains(string(kept), text) || strings.Contains(string(kept), fmt.Sprintf("%x", token.secret)) {
		t.Errorf("the secret is kept: %v", err)
	}
	for _, shown := range []string{fmt.Sprint(token), fmt.Sprintf("%#v", token)} {
		if shown != "token "+token.ID()+" of web1.example.com" {
			t.Errorf("shown as %s", shown)
		}
	}
	parsed, err := ParseToken(" " + text + "\n")
	if err != nil || parsed != token {
		t.Fatalf("%v, %v", parsed, err)
	}
	refused := func(what, text string, request []byte, want string) {
		t.Helper()
		_, err := ca.Redeem(t.Context(), text, request)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), text) && len(text) > 1 {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	good := csr(t, "web1.example.com")
	other := token
	other.secret[3]++
	refused("another secret", other.Reveal(), good, "not known here")
	other = token
	other.Host = "web2"
	refused("another host", other.Reveal(), csr(t), "not known here")
	other = token
	other.id[0]++
	refused("another ID", other.Reveal(), good, "not known here")
	refused("another CA", newTokenFor(t, newAuthority(t, fsys.OS, t.TempDir()), "web1.example.com").Reveal(), good, "another CA's")
	refused("a request for another", text, csr(t, "web2"), `for "web2", and only "web1.example.com" can be had`)
	refused("a damaged request", text, good[:len(good)-3], "cannot be read")
	forged := append([]byte(nil), good...)
	forged[len(forged)-1] ^= 1
	refused("a forged request", text, forged, "")
	refused("a huge request", text, make([]byte, maxRequest+1), "are the most")
	clock = noon.Add(2 * time.Hour)
	refused("late", text, good, "it expired at 2026-11-29T13:00:00Z, and it is 2026-11-29T14:00:00Z")
	clock = noon.Add(time.Minute)

	cert, err := ca.Redeem(t.Context(), text, good)
	if err != nil {
		t.Fatal(err)
	}
	list, err := ca.List()
	if err != nil || len(list) != 1 || list[0].Serial != pki.Serial(cert.SerialNumber) || list[0].Roles != r.Roles || cert.DNSNames[0] != "web1.example.com" {
		t.Errorf("%+v, %v", list, err)
	}
	refused("again", text, good, "it was used at 2026-11-29T12:01:00Z, for the certificate "+list[0].Serial)

	second := newTokenFor(t, ca, "web3")
	if gone, err := ca.RevokeToken(t.Context(), "WEB3"); err != nil || len(gone) != 1 {
		t.Errorf("%v, %v", gone, err)
	}
	refused("revoked", second.Reveal(), csr(t), "was revoked at")
	if gone, err := ca.RevokeToken(t.Context(), second.ID()); err != nil || len(gone) != 0 {
		t.Errorf("%v, %v", gone, err)
	}
	if _, err := ca.RevokeToken(t.Context(), "web9"); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	tokens, err := ca.Tokens()
	if err != nil || len(tokens) != 2 || tokens[0].State(clock) != "used" || tokens[1].State(clock) != "revoked" {
		t.Errorf("%+v, %v", tokens, err)
	}
	clock = noon.Add(keepTokens + 2*time.Hour)
	newTokenFor(t, ca, "web4")
	if tokens, err := ca.Tokens(); err != nil || len(tokens) != 1 || tokens[0].Host != "web4" {
		t.Errorf("old ones are kept: %+v, %v", tokens, err)
	}
	for _, ttl := range []time.Duration{0, time.Second, MaxTokenLife + 1} {
		if _, err := ca.NewToken(t.Context(), r, ttl); err == nil {
			t.Errorf("a life of %s is taken", ttl)
		}
	}
}

// TestBrokenToken has a token that a mail broke across lines: nothing else is missing or added.
func TestBrokenToken(t *testing.T) {
	text := newToken("web1", strings.Repeat("ab", 32)).Reveal()
	for _, broken := range []string{text[:40] + "\n" + text[40:], text[:72] + "\r\n  " + text[72:] + "\n", " " + text[:12] + " " + text[12:]} {
		if token, err := ParseToken(broken); err != nil || token.Reveal() != text {
			t.Errorf("%q: %v", broken, err)
		}
	}
}

// TestMistypedTokens has ones that were copied badly.
func TestMistypedTokens(t *testing.T) {
	text := newToken("web1", strings.Repeat("ab", 32)).Reveal()
	for _, bad := range []string{"", "web1", text[:len(text)-1], text[:len(tokenMark)], text + "A", text[:30] + "-" + text[30:], strings.ToLower(text), text[:20] + "A" + text[20:], text + strings.Repeat("A", 2000)} {
		if _, err := ParseToken(bad); !errors.Is(err, ErrToken) || bad != "" && strings.Contains(err.Error(), bad) && bad != "web1" {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestKeysOfRequests takes keys that are strong enough, and no others.
func TestKeysOfRequests(t *testing.T) {
	_, edwards, _ := ed25519.GenerateKey(rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	large, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for what, ok := range map[string]error{"Ed25519": checked(csrOf(t, edwards)), "P-384": checked(csrOf(t, p384)), "RSA 2048": checked(csrOf(t, large, "WEB1"))} {
		if ok != nil {
			t.Errorf("%s: %v", what, ok)
		}
	}
	for what, err := range map[string]error{"P-521": checked(csrOf(t, p521)), "RSA 1024": checked(csrOf(t, small))} {
		if err == nil || !strings.Contains(err.Error(), "is of a kind that is not: ") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func checked(request []byte) error {
	_, err := checkRequest(request, "web1")
	return err
}

// TestOneUse shows a token from many at once: one gets a certificate.
func TestOneUse(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, fsys.OS, dir)
	text := newTokenFor(t, ca, "web1").Reveal()
	var got atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		request := csr(t)
		wg.Go(func() {
			mine, err := Open(Config{Dir: dir, Now: at(noon)})
			if err == nil {
				_, err = mine.Redeem(t.Context(), text, request)
			}
			if err == nil {
				got.Add(1)
			} else if !errors.Is(err, ErrToken) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	list, err := ca.List()
	if got.Load() != 1 || len(list) != 1 || err != nil {
		t.Errorf("%d certificates, %d listed, %v", got.Load(), len(list), err)
	}
}

// TestOneUseAtPowerCuts cuts the power at each step of a redeeming, and shows the token
// again: two certificates are never out, and what is out is listed.
func TestOneUseAtPowerCuts(t *testing.T) {
	seed := int64(need.Seed(t))
	for step := 1; ; step++ {
		f := faultfs.New(seed + int64(step))
		ca := newAuthority(t, f, "/ca")
		text := newTokenFor(t, ca, "web1").Reveal()
		f.CutPower(step)
		out := 0
		cert, err := ca.Redeem(t.Context(), text, csr(t))
		done := err == nil
		if done {
			out++
		}
		f.Crash()
		if ca, err = Open(ca.cfg); err != nil {
			t.Fatal(err)
		}
		if _, err := ca.Redeem(t.Context(), text, csr(t)); err == nil {
			out++
		}
		list, err := ca.List()
		if err != nil || out > 1 || len(list) < out {
			t.Fatalf("step %d: %d certificates are out, %d listed, %v", step, out, len(list), err)
		}
		if done {
			if list[0].Serial != pki.Serial(cert.SerialNumber) {
				t.Error("another one is listed")
			}
			if step < 6 {
				t.Fatalf("only %d steps", step)
			}
			return
		}
	}
}

// A token that nobody knows costs no reading of the file while that stays the same, and a new
// one, or one that was revoked by another process, counts at once.
func TestTokensAreKnownAtOnce(t *testing.T) {
	dir := t.TempDir()
	server := newAuthority(t, fsys.OS, dir)
	other, err := Open(Config{Dir: dir, Now: at(noon)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		name := fmt.Sprintf("web%d", i)
		token, err := other.NewToken(t.Context(), request(name), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		stranger := token
		stranger.secret[0]++
		for range 2 {
			if _, err := server.Redeem(t.Context(), stranger.Reveal(), csr(t, name)); !errors.Is(err, ErrToken) {
				t.Fatalf("a stranger's token: %v", err)
			}
		}
		if i%2 == 0 {
			if _, err := other.RevokeToken(t.Context(), token.ID()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := server.Redeem(t.Context(), token.Reveal(), csr(t, name)); (err != nil) != (i%2 == 0) {
			t.Fatalf("token %d: %v", i, err)
		}
	}
	if len(server.known) != 20 {
		t.Errorf("%d tokens are known", len(server.known))
	}
}
