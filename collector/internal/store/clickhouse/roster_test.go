package clickhouse

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/integration/harness/cluster"
)

// What one collector enters, another one reads, the latest of it; and of one that is gone for good that it is, until it is heard of again.
func listed(t *testing.T, c *cluster.Cluster) {
	a := address(t, c)
	x, y := engineOf(t, a, "x"), engineOf(t, a, "y")
	ctx, began := t.Context(), time.Now().Unix()*1000
	must(t, x.Enter(ctx, &store.Member{Name: "east", Address: "e:1", At: 1000, Started: 5}))
	must(t, x.EnterHosts(ctx, []store.MemberHost{{Host: "web1", At: 1000, Batch: 0, Received: 9, Stored: 2}}))
	must(t, x.Enter(ctx, &store.Member{Name: "east", Address: "e:2", At: 2000, Started: 5, Behind: 7}))
	must(t, x.EnterHosts(ctx, []store.MemberHost{{Host: "web1\xff", At: 2000, Batch: 1, Received: 12, Stored: 4, Age: 1500, Data: []byte{0, 255}}}))
	must(t, y.Enter(ctx, &store.Member{Name: "west", At: 2500}))
	members, err := y.Members(ctx)
	must(t, err)
	for i := range members { // whatever the collectors' clocks say
		if m := &members[i]; m.Taken < began || m.Taken > time.Now().UnixMilli() {
			t.Errorf("what %s says was taken at %d", m.Store, m.Taken)
		}
		members[i].Taken = 0
	}
	if d := cmp.Diff([]store.Member{{Store: "x", Name: "east", Address: "e:2", At: 2000, Started: 5, Behind: 7}, {Store: "y", Name: "west", At: 2500}}, members); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	hosts, err := y.MemberHosts(ctx, "x")
	must(t, err)
	if len(hosts) != 2 || hosts[0].Held() != 7 || hosts[1].Host != "web1\xff" || hosts[1].Held() != 8 || hosts[1].Age != 1500 || hosts[1].Taken < began || string(hosts[1].Data) != "\x00\xff" {
		t.Errorf("hosts: %+v", hosts)
	}

	must(t, x.Append(ctx, sealed(1, table(10))))
	must(t, x.Append(ctx, sealed(2, table(7))))
	behind, err := y.Behind(ctx, "x", 1)
	must(t, err)
	all, err := y.Behind(ctx, "x", 0)
	must(t, err)
	n, total := uint64(0), uint64(0)
	for _, k := range behind {
		n += k
	}
	for _, k := range all {
		total += k
	}
	if n == 0 || total <= n {
		t.Errorf("records behind the first batch: %v, all: %v", behind, all)
	}
	seen, err := y.Seen(ctx, time.Now())
	must(t, err)
	if d := cmp.Diff(map[string]uint64{"x": 2}, seen); d != "" {
		t.Errorf("seen (-want +got):\n%s", d)
	}

	must(t, x.EnterAccounts(ctx, []store.MemberHost{{Host: "web1", At: 1, Data: []byte("old")}, {Host: "db1", At: 1, Data: []byte("d")}}))
	must(t, x.EnterAccounts(ctx, []store.MemberHost{{Host: "web1", At: 2, Data: []byte("new")}}))
	accounts, err := y.MemberAccounts(ctx, "x", []string{"web1"})
	must(t, err)
	if len(accounts) != 1 || string(accounts[0].Data) != "new" || accounts[0].Taken < began {
		t.Errorf("accounts: %+v", accounts)
	}

	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC).UnixMilli()
	must(t, x.EnterSenders(ctx, at, []store.KV{{Key: []byte("k"), Value: []byte("1")}, {Key: []byte("gone"), Value: []byte("1")}}))
	must(t, x.EnterSenders(ctx, at+1, []store.KV{{Key: []byte("k"), Value: []byte("2")}, {Key: []byte("gone")}}))
	_, err = c.Nodes[0].Query(fmt.Sprintf("INSERT INTO %s.senders (key, store, at, taken, value) VALUES ('old', 'x', 1, %d, '1')", a.Database, time.Now().AddDate(0, 0, -30).UnixMilli()))
	must(t, err)
	z := engineOf(t, a, "z") // whose clock is a month ahead, which deletes nothing of what others have entered just now
	must(t, z.EnterSenders(ctx, time.Now().AddDate(0, 1, 0).UnixMilli(), []store.KV{{Key: []byte("z")}}))
	kept, upTo, err := y.MemberSenders(ctx, 0)
	must(t, err)
	if upTo < began || upTo > time.Now().UnixMilli() {
		t.Errorf("up to %d", upTo)
	}
	if later, again, err := y.MemberSenders(ctx, upTo+1000); err != nil || len(later) != 0 || again != upTo+1000 {
		t.Errorf("and since: %v up to %d, %v", later, again, err)
	}
	if d := cmp.Diff(map[string][]store.KV{"x": {{Key: []byte("k"), Value: []byte("2")}}}, kept); d != "" {
		t.Errorf("senders, of which some are forgotten, and some old (-want +got):\n%s", d)
	}

	must(t, y.Lose(ctx, "x", 3000))
	lost := func() int64 {
		members, err := y.Members(ctx)
		must(t, err)
		return members[0].Lost
	}
	if lost() != 3000 {
		t.Errorf("lost at %d", lost())
	}
	must(t, x.Enter(ctx, &store.Member{Name: "east", At: 4000}))
	if lost() != 0 {
		t.Error("it is heard of again, and lost")
	}
}
