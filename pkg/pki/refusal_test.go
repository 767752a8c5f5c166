package pki

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// TestRefusals has real handshakes for each way in which a client can be wrong: the reason
// at the server, in words, and what the client is told.
func TestRefusals(t *testing.T) {
	ca, other, again := newCA(t, "fleet CA"), newCA(t, "other CA"), newCA(t, "fleet CA")
	mid := newCAUnder(t, "middle CA", ca)
	f := newFiles(t, ca.issue("collector1"), ca.cert)
	revoked, listed := ca.issue("stolen1"), ca.issue("stolen2")
	write(t, f.deny, []byte("# since the theft\n"+Serial(revoked.cert.SerialNumber)+" # stolen1\nlab*\nbad.example.com\n"))
	write(t, f.crl, crl(t, ca, listed.cert.SerialNumber))
	cfg := f.config()
	cfg.CRL = f.crl
	server := open(t, cfg)

	byMiddle := mid.issue("web2")
	withMiddle := byMiddle
	withMiddle.above = []*x509.Certificate{mid.cert}
	old := func(c *x509.Certificate) { c.NotBefore, c.NotAfter = noon.Add(-72*time.Hour), noon.Add(-3*time.Hour) }
	early := func(c *x509.Certificate) { c.NotBefore = noon.Add(10 * time.Minute) }
	serverOnly := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }
	noNames := func(c *x509.Certificate) { c.DNSNames = nil }

	for name, c := range map[string]struct {
		cert   issued
		reason Reason // empty: not refused
		words  []string
		client []string
	}{
		"good":             {cert: ca.issue("web1")},
		"good, middle":     {cert: withMiddle},
		"expired":          {ca.issue("web1", old), Expired, []string{"web1", "expired at 2026-11-29T09:00:00Z, 3 hours ago by this machine's clock, which says 2026-11-29T12:00:00Z"}, []string{"by its clock it has expired"}},
		"not yet valid":    {ca.issue("web1", early), NotYetValid, []string{"not valid before 2026-11-29T12:10:00Z, in 10 minutes; it is 2026-11-29T12:00:00Z by this machine's clock"}, []string{"or is not valid yet"}},
		"wrong CA":         {other.issue("web1"), UnknownCA, []string{`issued by "CN=other CA"`, `trusted are "CN=fleet CA"`}, []string{`it does not trust "CN=other CA"`, "tls_ca"}},
		"CA made anew":     {again.issue("web1"), UnknownCA, []string{`not signed by the CA of that name`}, []string{"it does not trust"}},
		"no middle":        {byMiddle, UnknownCA, []string{`issued by "CN=middle CA"`, "must send its certificate"}, []string{"it does not trust"}},
		"no certificate":   {issued{}, NoCertificate, []string{"no certificate", `"CN=fleet CA"`}, []string{"set tls_cert and tls_key"}},
		"other use":        {ca.issue("web1", serverOnly), BadUse, []string{"clientAuth"}, []string{"bad certificate"}},
		"common name only": {ca.issue("", noNames), NoName, []string{`"not counted", does not count`}, []string{"names no host"}},
		"wildcard":         {ca.issue("*.example.com"), NoName, []string{"wildcard"}, nil},
		"two SPIFFE IDs":   {ca.issue("web1", uris(t, "spiffe://a/b", "spiffe://a/c")), NoName, []string{"two SPIFFE IDs"}, nil},
		"denied serial":    {revoked, Revoked, []string{"stolen1", "deny list"}, []string{"revoked"}},
		"denied name":      {ca.issue("BAD.example.com"), Revoked, []string{`"bad.example.com"`}, nil},
		"denied pattern":   {ca.issue("lab7"), Revoked, []string{`"lab*"`}, nil},
		"in the CRL":       {listed, Revoked, []string{"stolen2", "2026-11-29T10:00:00Z"}, []string{"revoked"}},
		"unknown role":     {ca.issue("web1", units("auditfleet:role=raed")), NotAllowed, []string{`no role "raed"`}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			client := &tls.Config{InsecureSkipVerify: true, Time: func() time.Time { return noon }}
			mine := open(t, Config{CA: f.ca, Now: cfg.Now})
			if c.cert.cert != nil {
				own := newFiles(t, c.cert, ca.cert)
				mine = open(t, own.config())
				cert := c.cert.tls()
				client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
			}
			_, serverErr, clientErr := handshake(t, server.Server(), client)
			if c.reason == "" {
				if serverErr != nil || clientErr != nil {
					t.Fatalf("server: %v, client: %v", serverErr, clientErr)
				}
				return
			}
			err := server.Explain(serverErr)
			if !errors.Is(err, c.reason) {
				t.Fatalf("%v (%v), want %s", err, serverErr, c.reason)
			}
			has(t, err.Error(), c.words...)
			told := mine.Explain(clientErr)
			if !errors.Is(told, PeerRefused) {
				t.Errorf("the client was told %v (%v)", told, clientErr)
			}
			has(t, told.Error(), c.client...)
		})
	}
}

// TestServerRefused has clients that don't take a server's certificate.
func TestServerRefused(t *testing.T) {
	ca, other := newCA(t, "fleet CA"), newCA(t, "other CA")
	mine := newFiles(t, ca.issue("web1"), ca.cert)
	denied := ca.issue("collector1")
	write(t, mine.deny, []byte(strings.ToUpper(Fingerprint(denied.cert))))
	client := open(t, mine.config())
	ip := func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.ParseIP("192.0.2.1")} }
	old := func(c *x509.Certificate) { c.NotAfter = noon.Add(-time.Second) }
	for name, c := range map[string]struct {
		cert   issued
		call   string
		reason Reason
		words  []string
	}{
		"good":           {cert: ca.issue("collector1"), call: "Collector1"},
		"good, address":  {cert: ca.issue("collector1", ip), call: "192.0.2.1"},
		"wrong name":     {ca.issue("collector1", ip), "collector2", WrongName, []string{"for collector1, 192.0.2.1, not for collector2"}},
		"wrong address":  {ca.issue("collector1", ip), "[2001:db8::1]", WrongName, []string{"192.0.2.1", "2001:db8::1"}},
		"wrong CA":       {other.issue("collector1"), "collector1", UnknownCA, []string{`"CN=other CA"`}},
		"expired":        {ca.issue("collector1", old), "collector1", Expired, []string{"expired at"}},
		"denied":         {denied, "collector1", Revoked, []string{"deny list"}},
		"name not known": {ca.issue("collector1"), "", Broken, []string{"name of the server is not known"}},
	} {
		t.Run(name, func(t *testing.T) {
			server := open(t, newFiles(t, c.cert, ca.cert).config())
			_, serverErr, clientErr := handshake(t, server.Server("x"), client.Client(c.call, "x"))
			if c.reason == "" {
				if serverErr != nil || clientErr != nil {
					t.Fatalf("server: %v, client: %v", serverErr, clientErr)
				}
				return
			}
			err := client.Explain(clientErr)
			if !errors.Is(err, c.reason) {
				t.Fatalf("%v (%v), want %s", err, clientErr, c.reason)
			}
			has(t, err.Error(), c.words...)
			if told := server.Explain(serverErr); !errors.Is(told, PeerRefused) {
				t.Errorf("the server was told %v (%v)", told, serverErr)
			}
		})
	}
}

// TestOtherProtocols has peers that speak an older TLS, no TLS, and nothing.
func TestOtherProtocols(t *testing.T) {
	ca := newCA(t, "fleet CA")
	f := newFiles(t, ca.issue("collector1"), ca.cert)
	trust := open(t, f.config())
	cert := ca.issue("web1").tls()
	_, serverErr, clientErr := handshake(t, trust.Server(), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}})
	if err := trust.Explain(serverErr); !errors.Is(err, OldProtocol) {
		t.Errorf("TLS 1.2: %v (%v)", err, serverErr)
	}
	if err := trust.Explain(clientErr); !errors.Is(err, OldProtocol) {
		t.Errorf("TLS 1.2, client: %v (%v)", err, clientErr)
	}
	_, serverErr, clientErr = handshake(t, &tls.Config{MaxVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}, trust.Client("web1"))
	for _, err := range []error{trust.Explain(serverErr), trust.Explain(clientErr)} {
		if !errors.Is(err, OldProtocol) {
			t.Errorf("a server of TLS 1.2: %v", err)
		}
	}
	for what, c := range map[string]struct {
		bytes string
		want  Reason
	}{
		"clear text": {"type=SYSCALL msg=audit(1.0:1): \n", NotTLS},
		"nothing":    {"", Broken},
		"a piece":    {"\x16\x03\x01\x02", Broken},
	} {
		us, peer := net.Pipe()
		go func() {
			_, _ = peer.Write([]byte(c.bytes))
			_ = peer.Close()
		}()
		err := tls.Server(us, trust.Server()).Handshake()
		if got := trust.Explain(err); !errors.Is(got, c.want) {
			t.Errorf("%s: %v (%v), want %s", what, got, err, c.want)
		}
		_ = us.Close()
	}
	if err := trust.Explain(fmt.Errorf("read: %w", os.ErrDeadlineExceeded)); !errors.Is(err, Broken) || !strings.Contains(err.Error(), "in time") {
		t.Error(err)
	}
	if trust.Explain(nil) != nil {
		t.Error("no error is explained")
	}
}

// TestExchange sees which key exchange is taken.
func TestExchange(t *testing.T) {
	ca := newCA(t, "fleet CA")
	server, client := open(t, newFiles(t, ca.issue("c"), ca.cert).config()), open(t, newFiles(t, ca.issue("web1"), ca.cert).config())
	for _, c := range []struct {
		offer, want tls.CurveID
	}{{0, tls.X25519MLKEM768}, {tls.X25519, tls.X25519}} {
		cfg := client.Client("c", "h2")
		if c.offer != 0 {
			cfg.CurvePreferences = []tls.CurveID{c.offer}
		}
		state, err, clientErr := handshake(t, server.Server("h2"), cfg)
		if err != nil || clientErr != nil {
			t.Fatal(err, clientErr)
		}
		if state.CurveID != c.want || state.Version != tls.VersionTLS13 || state.NegotiatedProtocol != "h2" {
			t.Errorf("%v, %x, %q", state.CurveID, state.Version, state.NegotiatedProtocol)
		}
		id, err := server.Identify(state)
		if err != nil || id.Name != "web1" || id.Roles != Send || id.Serial != "1002" {
			t.Errorf("%+v, %v", id, err)
		}
	}
}

// TestStrangersNames has a stranger put bytes into names that would write other lines into a
// log, or colours onto a terminal.
func TestStrangersNames(t *testing.T) {
	ca, stranger := newCA(t, "fleet CA"), newCA(t, "x\x1b[31m\nlevel=info all is well\u202e"+strings.Repeat("y", 5000))
	trust := open(t, newFiles(t, ca.issue("collector1"), ca.cert).config())
	evil := stranger.issue("web1\n2026-11-29 all is well \x1b[2J" + strings.Repeat("z", 5000))
	for _, err := range []error{
		second(trust.current.Load().identify([]*x509.Certificate{evil.cert}, noon)),
		trust.current.Load().server([]*x509.Certificate{evil.cert}, "collector1", noon),
		onlyCA(stranger.cert).server([]*x509.Certificate{evil.cert}, "collector1", noon),
		second(onlyCA(stranger.cert).identify([]*x509.Certificate{evil.cert}, noon)),
		trust.Explain(errors.New("tls: \x1b[31m\n")),
	} {
		if err == nil || strings.ContainsAny(err.Error(), "\n\x1b\u202e") || len(err.Error()) > 2000 {
			t.Errorf("%q", err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestCRLFiles reads revocation lists in both forms, and ones that are wrong.
func TestCRLFiles(t *testing.T) {
	ca, other := newCA(t, "fleet CA"), newCA(t, "other CA")
	der := crl(t, ca, big.NewInt(77))
	text := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
	cas := []*x509.Certificate{ca.cert}
	for what, data := range map[string][]byte{"DER": der, "PEM": text, "two": append(append([]byte("remark\n"), text...), text...)} {
		r, err := parseCRLs("f", data, cas, noon)
		if err != nil || len(r.when) != 1 || r.outdated != nil {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
	}
	r, err := parseCRLs("f", der, cas, noon.Add(2*time.Hour))
	if err != nil || len(r.outdated) != 1 || len(r.when) != 1 {
		t.Errorf("overdue: %+v, %v", r, err)
	}
	for what, c := range map[string]struct {
		data []byte
		want string
	}{
		"other CA": {crl(t, other, big.NewInt(77)), `"CN=other CA" is not signed by a CA that is trusted here`},
		"cut off":  {text[:len(text)-20], "cut off"},
		"half DER": {der[:30], "no certificate revocation list"},
		"a cert":   {certPEM(ca.cert), `"CERTIFICATE"`},
		"empty":    {nil, "no certificate revocation list"},
	} {
		if _, err := parseCRLs("f", c.data, cas, noon); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
}
