package server

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/hold"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/pki"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// asker connects to the gRPC port as who has a certificate.
func asker(t *testing.T, r *running, files pki.Config) *api.Client {
	t.Helper()
	c, err := askAs(t, r, files)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func askAs(t *testing.T, r *running, files pki.Config) (*api.Client, error) {
	t.Helper()
	trust, err := pki.Open(files)
	if err != nil {
		t.Fatal(err)
	}
	return api.DialTLS(t.Context(), r.verified.Addrs()[0].String(), trust.Client("127.0.0.1", "h2"), trust.Explain)
}

// An answer to another machine is bounded, says so where it is cut off, and one to this machine
// is not.
func TestAnswerIsBounded(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	cfg := testConfig(shortDir(t))
	cfg.GRPC, cfg.TLS, cfg.MaxAnswer = []string{"127.0.0.1:0"}, ca.files("hub", pki.Send), 4096
	r := start(t, cfg)
	var records []string
	for i := range 200 {
		records = append(records, userRecord("web1", i+1))
	}
	exchange(t, r.dial(), 1, records...)
	if got := raws(t, scanner(r.client()), "web1"); len(got) != 200 {
		t.Errorf("%d records on the socket", len(got))
	}
	auditor := asker(t, r, ca.files("auditor", pki.Read))
	n := 0
	err := auditor.Scan(t.Context(), &query.Query{Nodes: []string{"web1"}}, func(*event.Event) error { n++; return nil })
	if err == nil || !strings.Contains(err.Error(), "max_answer") || n >= 200 {
		t.Errorf("%d events over TLS, %v", n, err)
	}
	if got := raws(t, scanner(asker(t, r, ca.files("auditor2", pki.Read))), "nobody"); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

// Over TLS one gets what one gets over the socket, and may do what one's certificate says.
func TestQueryOverTLS(t *testing.T) {
	t.Parallel()
	ca, other := newCA(t), newCA(t)
	cfg := testConfig(shortDir(t))
	cfg.GRPC, cfg.TLS = []string{"127.0.0.1:0"}, ca.files("hub", pki.Send)
	cfg.TLS.Deny = ca.ca.Deny()
	r := start(t, cfg)
	conn := r.dial()
	exchange(t, conn, 1, userRecord("web1", 1), userRecord("web2", 2))
	auditor := asker(t, r, ca.files("auditor", pki.Read))
	if got, want := raws(t, scanner(auditor), "web1"), raws(t, scanner(r.client()), "web1"); !slices.Equal(got, want) || len(got) != 1 {
		t.Errorf("%q over TLS, %q over the socket", got, want)
	}
	if hosts, err := auditor.Hosts(t.Context()); err != nil || len(hosts) != 3 {
		t.Errorf("%v, %v", hosts, err)
	}
	if _, err := auditor.ChangeHosts(t.Context(), &store.Change{Forget: []string{"web2"}}); !errors.Is(err, api.ErrDenied) || !strings.Contains(err.Error(), "admin") {
		t.Errorf("a reader forgets a host: %v", err)
	}
	if _, err := auditor.ChangeHolds(t.Context(), hold.Change{Add: []string{"web1"}}); !errors.Is(err, api.ErrDenied) || !strings.Contains(err.Error(), "admin") {
		t.Errorf("a reader puts on hold: %v", err)
	}
	admin := asker(t, r, ca.files("ops", pki.Read|pki.Admin))
	if _, err := admin.ChangeHolds(t.Context(), hold.Change{Add: []string{"web1"}}); err != nil {
		t.Error(err)
	}
	if list, err := auditor.Holds(t.Context()); err != nil || len(list.GetHolds()) != 1 || string(list.GetHolds()[0].GetBy()) != `auid=-1 pid=-1 name="ops"` {
		t.Errorf("on hold: %v, %v", list, err)
	}
	if gone, err := admin.ChangeHosts(t.Context(), &store.Change{Forget: []string{"web2"}}); err != nil || !slices.Equal(gone, []string{"web2"}) {
		t.Errorf("%q, %v", gone, err)
	}
	sender := asker(t, r, ca.files("web1", pki.Send))
	if _, err := sender.Hosts(t.Context()); !errors.Is(err, api.ErrDenied) {
		t.Errorf("a host that sends reads: %v", err)
	}
	stranger := other.files("auditor", pki.Read)
	stranger.CA = ca.files("x", pki.Send).CA
	if _, err := askAs(t, r, stranger); err == nil || !strings.Contains(err.Error(), "CA") {
		t.Errorf("of another CA: %v", err)
	}

	// Each connection is on record, and each refusal.
	for _, want := range []string{`auth=cert acct="auditor" spid=`, `laddr=127.0.0.1 lport=`, `DAEMON_ACCEPT.*op=tls-not-allowed acct="web1" addr=127.0.0.1`, `op=tls-unknown-ca addr=`} {
		need.Wait(t, want, func() bool {
			return regexp.MustCompile(want).MatchString(strings.Join(raws(t, scanner(r.client()), "collector.test"), "\n"))
		})
	}

	// Who is revoked hears no more of what comes.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	heard := make(chan struct{}, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- auditor.Follow(ctx, &query.Query{}, func(*event.Event) error { heard <- struct{}{}; return nil }, func(uint64) error { return nil })
	}()
	for i := 10; ; i++ { // it may not follow yet
		exchange(t, conn, uint32(i), userRecord("web1", i))
		select {
		case <-heard:
		case <-time.After(20 * time.Millisecond):
			continue
		}
		break
	}
	if _, _, err := ca.ca.Revoke(t.Context(), "auditor"); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || ctx.Err() != nil {
		t.Errorf("it followed on: %v", err)
	}
	need.Wait(t, "the log", func() bool { return strings.Contains(r.log.String(), "cut off a reader") })
	revoked := ca.files("late", pki.Read)
	if _, _, err := ca.ca.Revoke(t.Context(), "late"); err != nil {
		t.Fatal(err)
	}
	need.Wait(t, "the deny list", func() bool { return r.trust.Reload() == nil })
	for range need.Rounds(50, 20) {
		if _, err := askAs(t, r, revoked); err == nil || !strings.Contains(err.Error(), "revoked") {
			t.Fatalf("who is revoked asks: %v", err)
		}
	}
}
