package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
)

// TestOpenSaysWhatIsWrong has files that a Trust must not be made from.
func TestOpenSaysWhatIsWrong(t *testing.T) {
	ca := newCA(t, "fleet CA")
	web1, web2 := ca.issue("web1"), ca.issue("web2")
	for name, c := range map[string]struct {
		do   func(f files, cfg *Config)
		want string
	}{
		"no CA":             {func(f files, cfg *Config) { cfg.CA = "" }, "tls_ca is missing"},
		"no key":            {func(f files, cfg *Config) { cfg.Key = "" }, "tls_key is missing"},
		"no certificate":    {func(f files, cfg *Config) { cfg.Cert = "" }, "tls_cert is missing"},
		"CA is not there":   {func(f files, cfg *Config) { _ = os.Remove(f.ca) }, "ca.crt is not there"},
		"deny is not there": {func(f files, cfg *Config) { _ = os.Remove(f.deny) }, "revoked is not there"},
		"CA is a host's":    {func(f files, cfg *Config) { write(t, f.ca, certPEM(web1.cert)) }, "is no CA's"},
		"CA has a key":      {func(f files, cfg *Config) { write(t, f.ca, append(certPEM(ca.cert), web1.keyPEM(t)...)) }, "holds a private key"},
		"empty":             {func(f files, cfg *Config) { write(t, f.cert, nil) }, "is empty"},
		"no PEM":            {func(f files, cfg *Config) { write(t, f.cert, web1.cert.Raw) }, "no certificate in PEM"},
		"cut off":           {func(f files, cfg *Config) { write(t, f.cert, certPEM(web1.cert)[:300]) }, "cut off"},
		"half a key":        {func(f files, cfg *Config) { write(t, f.key, web1.keyPEM(t)[:80]) }, "no whole private key"},
		"other key":         {func(f files, cfg *Config) { write(t, f.key, web2.keyPEM(t)) }, "own.key is not the key of the certificate in"},
		"CA first":          {func(f files, cfg *Config) { write(t, f.cert, certPEM(ca.cert, web1.cert)) }, "must stand first"},
		"everybody's key":   {func(f files, cfg *Config) { _ = os.Chmod(f.key, 0o644) }, "its mode is 0644: everybody may read the key in it: chmod 0600 "},
		"the group's key":   {func(f files, cfg *Config) { _ = os.Chmod(f.key, 0o660) }, "its mode is 0660: its group may replace"},
		"a folder":          {func(f files, cfg *Config) { cfg.Key = t.TempDir() }, "is a directory"},
		"encrypted": {func(f files, cfg *Config) {
			write(t, f.key, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"))
		}, "the key is encrypted"},
		"bad pattern": {func(f files, cfg *Config) { cfg.Rules.Readers = []string{"a b"} }, "is no pattern of names"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFiles(t, web1, ca.cert)
			cfg := f.config()
			c.do(f, &cfg)
			if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	f := newFiles(t, web1, ca.cert)
	if err := os.Chmod(f.key, 0o640); err != nil {
		t.Fatal(err)
	}
	open(t, f.config())
}

// TestOwnCertificateOutOfTime starts, and says so: the clock may not be set yet.
func TestOwnCertificateOutOfTime(t *testing.T) {
	ca := newCA(t, "fleet CA")
	for at, want := range map[time.Duration]string{48 * time.Hour: "our own certificate has expired", -48 * time.Hour: "is not valid yet"} {
		cfg := newFiles(t, ca.issue("web1"), ca.cert).config()
		log, said := logged()
		cfg.Logger, cfg.Now = log, func() time.Time { return noon.Add(at) }
		open(t, cfg)
		has(t, said.String(), want)
	}
}

// TestReload has files changed, rightly and wrongly, and looks what is in use.
func TestReload(t *testing.T) {
	ca, second := newCA(t, "fleet CA"), newCA(t, "second CA")
	first, next, third := ca.issue("web1"), ca.issue("web1"), ca.issue("web1")
	f := newFiles(t, first, ca.cert)
	cfg := f.config()
	log, said := logged()
	cfg.Logger = log
	trust := open(t, cfg)
	uses := func(i issued) {
		t.Helper()
		if !trust.Certificate().Equal(i.cert) {
			t.Errorf("serial %x is in use", trust.Certificate().SerialNumber)
		}
	}
	trust.poll()
	if said.Len() > 0 {
		t.Errorf("nothing has changed, and it says %s", said)
	}

	// A new certificate before its key: the old pair stays, and that is said once.
	write(t, f.cert, certPEM(next.cert))
	for range 5 {
		trust.poll()
	}
	uses(first)
	if n := strings.Count(said.String(), "is not the key of the certificate"); n != 1 {
		t.Errorf("said %d times:\n%s", n, said)
	}
	// Meanwhile the deny list is read all the same.
	write(t, f.deny, []byte("web9\n"))
	trust.poll()
	if _, denied := trust.current.Load().deny.find("web9", nil); !denied {
		t.Error("the deny list waits for the certificate")
	}
	write(t, f.key, next.keyPEM(t))
	trust.poll()
	uses(next)

	// Written in place, a piece at a time.
	whole := certPEM(third.cert)
	for _, n := range []int{0, 10, len(whole) / 2, len(whole)} {
		if err := os.WriteFile(f.cert, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		trust.poll()
		uses(next)
	}
	write(t, f.key, third.keyPEM(t))
	trust.poll()
	uses(third)

	// What can no longer be read stays in use.
	for _, path := range []string{f.ca, f.cert, f.deny} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(f.key, 0o604); err != nil {
		t.Fatal(err)
	}
	said.Reset()
	trust.poll()
	uses(third)
	has(t, said.String(), "ca.crt is not there", "own.crt is not there", "revoked is not there")
	if err := trust.Reload(); err == nil || !strings.Contains(err.Error(), "ca.crt is not there") {
		t.Errorf("reload: %v", err)
	}
	if id, err := trust.current.Load().identify([]*x509.Certificate{first.cert}, noon); err != nil || id.Name != "web1" {
		t.Errorf("%v, %v", id, err)
	}

	// What is right again is said to be.
	write(t, f.deny, []byte("web9\n"))
	said.Reset()
	trust.poll()
	has(t, said.String(), "is again as it was read before")

	// A CA that comes and one that goes.
	write(t, f.ca, certPEM(ca.cert, second.cert))
	trust.poll()
	if _, err := trust.current.Load().identify([]*x509.Certificate{second.issue("db1").cert}, noon); err != nil {
		t.Error(err)
	}
	write(t, f.ca, certPEM(second.cert))
	trust.poll()
	if _, err := trust.current.Load().identify([]*x509.Certificate{first.cert}, noon); !errors.Is(err, UnknownCA) {
		t.Error(err)
	}
}

// TestCRLWaitsForItsCA has a revocation list that comes before the CA which signed it.
func TestCRLWaitsForItsCA(t *testing.T) {
	ca, second := newCA(t, "fleet CA"), newCA(t, "second CA")
	stolen := second.issue("db1")
	f := newFiles(t, ca.issue("c"), ca.cert)
	write(t, f.crl, crl(t, ca))
	cfg := f.config()
	cfg.CRL = f.crl
	trust := open(t, cfg)
	write(t, f.crl, crl(t, second, stolen.cert.SerialNumber))
	trust.poll()
	for _, p := range trust.parts {
		p.unsettled = false // as after some seconds
	}
	write(t, f.ca, certPEM(ca.cert, second.cert))
	trust.poll()
	if _, err := trust.current.Load().identify([]*x509.Certificate{stolen.cert}, noon); !errors.Is(err, Revoked) {
		t.Errorf("%v", err)
	}
}

// TestHold ends sessions whose peers are no longer allowed, and no others.
func TestHold(t *testing.T) {
	ca, second := newCA(t, "fleet CA"), newCA(t, "second CA")
	late := func(c *x509.Certificate) { c.NotAfter = noon.Add(time.Hour) }
	hosts := []issued{ca.issue("web1"), ca.issue("web2"), second.issue("web3"), ca.issue("web4", late), ca.issue("web5", units("auditfleet:role=send,read"))}
	f := newFiles(t, ca.issue("c"), ca.cert, second.cert)
	var clock atomic.Int64
	cfg := f.config()
	cfg.Now = func() time.Time { return noon.Add(time.Duration(clock.Load())) }
	trust := open(t, cfg)
	cut := map[string]error{}
	var mu sync.Mutex
	ids := map[string]Identity{}
	for _, h := range hosts {
		id, err := trust.current.Load().identify([]*x509.Certificate{h.cert}, noon)
		if err != nil {
			t.Fatal(err)
		}
		ids[id.Name] = id
		if _, err := trust.Hold(id, func(err error) {
			mu.Lock()
			defer mu.Unlock()
			if cut[id.Name] != nil {
				t.Errorf("%s is cut off again", id.Name)
			}
			cut[id.Name] = err
		}); err != nil {
			t.Fatal(err)
		}
	}
	check := func(after string, want map[string]Reason) {
		t.Helper()
		for name := range ids {
			if reason, over := want[name]; over != (cut[name] != nil) || over && !errors.Is(cut[name], reason) {
				t.Errorf("after %s %s: %v, want %q", after, name, cut[name], reason)
			}
		}
	}
	trust.poll()
	check("nothing", nil)
	want := map[string]Reason{"web1": Revoked}
	write(t, f.deny, []byte("web1\n"))
	trust.poll()
	check("denying web1", want)
	if _, err := trust.Hold(ids["web1"], nil); !errors.Is(err, Revoked) {
		t.Errorf("web1 is held again: %v", err)
	}
	f.put(t, ca.issue("c"))
	trust.poll()
	check("a new certificate of ours", want)
	write(t, f.ca, certPEM(ca.cert))
	trust.poll()
	want["web3"] = UnknownCA
	check("a CA went", want)
	clock.Store(int64(2 * time.Hour))
	trust.poll()
	want["web4"] = Expired
	check("two hours", want)
	if err := trust.SetRules(Rules{Readers: []string{"auditor"}}); err != nil {
		t.Fatal(err)
	}
	want["web5"] = NotAllowed
	check("other readers", want)
	if err := trust.SetRules(Rules{Senders: []string{"b a d"}}); err == nil {
		t.Error("a bad pattern is taken")
	}
	if n := len(trust.sessions()); n != 1 {
		t.Errorf("%d are held, want web2", n)
	}
}

// TestHoldAndDeny: however a session that begins and a deny list that comes meet, the
// session does not stay.
func TestHoldAndDeny(t *testing.T) {
	ca := newCA(t, "fleet CA")
	web1 := ca.issue("web1")
	for range need.Rounds(100, 20) {
		f := newFiles(t, ca.issue("c"), ca.cert)
		trust := open(t, f.config())
		cut := make(chan struct{})
		var over atomic.Bool
		go func() {
			defer close(cut)
			id, err := trust.current.Load().identify([]*x509.Certificate{web1.cert}, noon)
			if err == nil {
				_, err = trust.Hold(id, func(error) { over.Store(true) })
			}
			if err != nil {
				over.Store(true)
			}
		}()
		write(t, f.deny, []byte("web1\n"))
		trust.poll()
		<-cut
		if !over.Load() {
			t.Fatal("web1 is denied, and its session goes on")
		}
	}
}

// TestRotation replaces certificates and CAs of both ends while handshakes run: none fails.
func TestRotation(t *testing.T) {
	old, next := newCA(t, "old CA"), newCA(t, "new CA")
	sf, cf := newFiles(t, old.issue("collector1"), old.cert), newFiles(t, old.issue("web1"), old.cert)
	server, client := open(t, sf.config()), open(t, cf.config())
	serverConfig := server.Server()
	total := int64(need.Size(1000, 200))
	var begun atomic.Int64
	tell := make(chan struct{}, total)
	var hands sync.WaitGroup
	for range 4 {
		hands.Go(func() {
			for begun.Add(1) <= total {
				if _, serverErr, clientErr := handshake(t, serverConfig, client.Client("collector1")); serverErr != nil || clientErr != nil {
					t.Errorf("server: %v, client: %v", serverErr, clientErr)
				}
				tell <- struct{}{}
			}
		})
	}
	// Both CAs are known at both ends before anybody has a certificate of the new one.
	for end, f := range map[*Trust]files{server: sf, client: cf} {
		write(t, f.ca, certPEM(old.cert, next.cert))
		end.poll()
	}
	turn := 0
	for n := range total {
		<-tell
		if n%10 > 0 {
			continue
		}
		turn++
		ca := []*testCA{next, old}[turn%2]
		for end, f := range map[*Trust]files{server: sf, client: cf} {
			fresh := ca.issue(map[*Trust]string{server: "collector1", client: "web1"}[end])
			write(t, f.key, fresh.keyPEM(t))
			end.poll() // the key is there, its certificate is not
			write(t, f.cert, certPEM(fresh.cert))
			end.poll()
			if !end.Certificate().Equal(fresh.cert) {
				t.Fatal("the new certificate is not in use")
			}
		}
	}
	hands.Wait()
}

// TestCAExpiresDuringASession has a session end when a CA's certificate expires that stands between its own and ours, also where its
// own is good for longer.
func TestCAExpiresDuringASession(t *testing.T) {
	root := newCA(t, "fleet CA")
	between := newCAUnder(t, "CA between", root)
	short := *between.cert
	short.NotAfter = noon.Add(time.Hour)
	between.cert = sign(t, &short, root.cert, &between.key.PublicKey, root.key)
	f := newFiles(t, root.issue("c"), root.cert)
	now := noon
	cfg := f.config()
	cfg.Now = func() time.Time { return now }
	trust := open(t, cfg)
	id, err := trust.current.Load().identify([]*x509.Certificate{between.issue("web1").cert, between.cert}, noon)
	if err != nil {
		t.Fatal(err)
	}
	var cut error
	if _, err := trust.Hold(id, func(err error) { cut = err }); err != nil {
		t.Fatal(err)
	}
	if trust.expire(); cut != nil {
		t.Fatal(cut)
	}
	now = noon.Add(61 * time.Minute)
	if trust.expire(); !errors.Is(cut, Expired) || !strings.Contains(cut.Error(), "CA between") {
		t.Errorf("the session goes on: %v", cut)
	}
}

// TestRun follows files by itself.
func TestRun(t *testing.T) {
	ca := newCA(t, "fleet CA")
	f := newFiles(t, ca.issue("c"), ca.cert)
	trust := open(t, f.config())
	id, err := trust.current.Load().identify([]*x509.Certificate{ca.issue("web1").cert}, noon)
	if err != nil {
		t.Fatal(err)
	}
	cut := make(chan error, 1)
	if _, err := trust.Hold(id, func(err error) { cut <- err }); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- trust.Run(ctx) }()
	write(t, f.deny, []byte(id.Fingerprint))
	if err := <-cut; !errors.Is(err, Revoked) {
		t.Error(err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestClientWithoutCertificate has no certificate of its own: what it can do is check the server.
func TestClientWithoutCertificate(t *testing.T) {
	ca := newCA(t, "fleet CA")
	f := newFiles(t, ca.issue("collector1"), ca.cert)
	client := open(t, Config{CA: f.ca, Now: f.config().Now})
	if client.Certificate() != nil {
		t.Error("it has a certificate")
	}
	cert := ca.issue("collector1").tls()
	_, serverErr, clientErr := handshake(t, &tls.Config{Certificates: []tls.Certificate{cert}}, client.Client("collector1"))
	if serverErr != nil || clientErr != nil {
		t.Error(serverErr, clientErr)
	}
}
