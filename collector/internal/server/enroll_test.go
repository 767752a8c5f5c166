package server

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/pki"
	"github.com/auditfleet/auditfleet/pkg/pki/authority"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/enroll"
)

// A host shows a token on the port for TLS, gets its certificate there, and is known by it.
func TestEnrolment(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	cfg := testConfig(shortDir(t))
	cfg.ListenTLS, cfg.GRPC = []string{"127.0.0.1:0"}, []string{"127.0.0.1:0"}
	cfg.TLS, cfg.EnrollCA = ca.files("hub", pki.Send), filepath.Join(ca.dir, "ca")
	cfg.Limits.MaxPerAddr = 1
	r := start(t, cfg)
	token, err := ca.ca.NewToken(t.Context(), authority.Request{Name: "web1", Roles: pki.Send, Life: time.Hour}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	key, _, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(cfg *tls.Config, token string) (reply enroll.Reply) {
		t.Helper()
		c, err := r.dialTLS(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := enroll.Write(c, &enroll.Request{Token: token, Request: request}); err != nil {
			t.Fatal(err)
		}
		if err := enroll.Read(c, &reply); err != nil {
			t.Fatal(err)
		}
		return reply
	}
	stranger := pki.PinnedClient("127.0.0.1", ca.ca.Fingerprint(), enroll.Token)
	reply := ask(stranger, token.Reveal())
	block, _ := pem.Decode([]byte(reply.Certificate))
	if block == nil {
		t.Fatalf("%+v", reply)
	}
	if again := ask(stranger, token.Reveal()); !strings.Contains(again.Error, "was used at") {
		t.Errorf("again: %+v", again)
	}
	host := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{block.Bytes}, PrivateKey: key}}, InsecureSkipVerify: true}
	c, err := r.dialTLS(host)
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, c, 1, userRecord("web1", 1))
	if got := kept(t, r, &query.Query{Types: []uint32{1112}}); len(got) != 1 || got[0] != "web1 claims web1 by tls proved web1" {
		t.Errorf("%q", got)
	}
	// It renews its certificate while its records go on, from the one address that it has.
	renewing := host.Clone()
	renewing.NextProtos = []string{enroll.Renew}
	if reply := ask(renewing, ""); reply.Certificate == "" {
		t.Errorf("renew: %+v", reply)
	}
	exchange(t, c, 2, userRecord("web1", 2))
	// The same on the port of gRPC.
	for i, cfg := range []*tls.Config{stranger, renewing} {
		conn, err := tls.Dial("tcp", r.verified.Addrs()[0].String(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		var reply enroll.Reply
		err = errors.Join(enroll.Write(conn, &enroll.Request{Token: []string{token.Reveal(), ""}[i], Request: request}), enroll.Read(conn, &reply), conn.Close())
		if err != nil || i == 0 && !strings.Contains(reply.Error, "was used at") || i == 1 && reply.Certificate == "" {
			t.Errorf("%d: %+v, %v", i, reply, err)
		}
	}
	need.Wait(t, "the connections are over", func() bool { return r.verified.Len() == 0 })

	// All of it is on record, once, also what commands do.
	if _, _, err := ca.ca.Revoke(t.Context(), "web1"); err != nil {
		t.Fatal(err)
	}
	other, err := ca.ca.NewToken(t.Context(), authority.Request{Name: "web2", Roles: pki.Send, Life: time.Hour}, time.Hour)
	if err == nil {
		_, err = ca.ca.RevokeToken(t.Context(), other.ID())
	}
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	serial, id := pki.Serial(cert.SerialNumber), token.ID()
	recorded := func(r *running) {
		t.Helper()
		own := scanner(r.client())
		for want, times := range map[string]int{
			`type=DAEMON_CONFIG .*op=create-token host="web1" token=` + id + ` auid=-1`:                                                           1,
			`op=enroll host="web1" token=` + id + ` serial=` + serial + ` fingerprint=` + pki.Fingerprint(cert) + ` addr=127.0.0.1 port=\d+ auid`: 1,
			`type=CRYPTO_SESSION .*auth=token acct="web1" `:                                                                                       1,
			`type=DAEMON_ACCEPT .*op=enroll-refused token=` + id + ` reason=token-used addr=127.0.0.1 port=\d+ res=no`:                            2,
			`op=renew-certificate host="web1" serial=[0-9a-f]+ fingerprint=[0-9a-f]{64} addr=127.0.0.1`:                                           2,
			`op=issue-certificate host="hub" serial=`:                                                                                             1,
			`op=issue-certificate host="web1"`:                                                                                                    0, // not by command
			`op=revoke-certificate host="web1" token=` + id + ` serial=` + serial + ` `:                                                           1,
			`op=revoke-certificate host="web1" (token=[0-9a-f]+ )?serial=`:                                                                        3,
			`op=create-token host="web2" token=` + other.ID():                                                                                     1,
			`op=revoke-token host="web2" token=` + other.ID() + ` auid=-1`:                                                                        1,
		} {
			count := func() int {
				return len(regexp.MustCompile(want).FindAllString(strings.Join(raws(t, own, "collector.test"), "\n"), -1))
			}
			need.Wait(t, want, func() bool { return count() >= times })
			if n := count(); n != times {
				t.Errorf("%d times, not %d: %s", n, times, want)
			}
		}
	}
	recorded(r)
	r.stop()
	if _, err := ca.ca.NewToken(t.Context(), authority.Request{Name: "web3", Roles: pki.Send, Life: time.Hour}, time.Hour); err != nil {
		t.Fatal(err)
	}
	r = start(t, cfg)
	own := scanner(r.client())
	need.Wait(t, "what was done meanwhile", func() bool {
		return strings.Contains(strings.Join(raws(t, own, "collector.test"), "\n"), `op=create-token host="web3"`)
	})
	recorded(r)
}

// A CA that has not issued the collector's own certificate is refused: hosts could not know
// the collector by it.
func TestEnrolmentByAnotherCA(t *testing.T) {
	t.Parallel()
	ca, other := newCA(t), newCA(t)
	cfg := testConfig(shortDir(t))
	cfg.ListenTLS, cfg.TLS, cfg.EnrollCA = []string{"127.0.0.1:0"}, ca.files("hub", pki.Send), filepath.Join(other.dir, "ca")
	s, err := Open(cfg)
	if err == nil {
		_ = s.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "it has not issued tls_cert") {
		t.Errorf("%v", err)
	}
}
