package server

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/hold"
	"github.com/auditfleet/auditfleet/collector/internal/retention"
	"github.com/auditfleet/auditfleet/collector/internal/space"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/proto/remote"
)

func (r *running) hold(c hold.Change) []hold.Done {
	r.t.Helper()
	done, err := r.client().ChangeHolds(context.Background(), c)
	if err != nil {
		r.t.Fatal(err)
	}
	return done
}

// What is on hold is kept from every limit; off hold it goes. Metrics, hosts, the log and the collector's own
// records say it.
func TestHolds(t *testing.T) {
	t.Parallel()
	r, _ := fourDays(t, nil)
	all := r.days()
	r.hold(hold.Change{Add: []string{all[0]}, Reason: "case 4711"})
	r.retention.SetLimits(retention.Limits{MaxDays: 1})
	want := []string{all[0], all[3]}
	eventually(t, "what is not on hold is gone", func() bool { return slices.Equal(r.days(), want) })
	eventually(t, "it is logged", func() bool {
		return strings.Contains(r.log.String(), "a day is on hold and stays, which would be dropped: day="+all[0]+" reason=max_days hold="+all[0])
	})
	eventually(t, "it is recorded", func() bool {
		own := r.ownText()
		return strings.Contains(own, "type=DAEMON_CONFIG") && strings.Contains(own, `op=hold-add hold="`+all[0]+`" reason=636173652034373131 at=`)
	})
	_, body := get(t, r, "/metrics")
	for _, m := range []string{"auditfleet_collector_holds 1", "auditfleet_collector_held_partitions 1", "auditfleet_collector_holds_broken 0"} {
		if !strings.Contains(body, m+"\n") {
			t.Errorf("/metrics lacks %s", m)
		}
	}
	r.hold(hold.Change{Add: []string{"web1"}}) // the day is on hold twice
	hosts, err := r.client().Hosts(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var said string
	for _, h := range hosts {
		said += string(h.GetName()) + ":" + strings.Trim(strings.Join(strs(h.GetHolds()), ","), " ") + " "
	}
	if !strings.Contains(said, "web1:web1 ") {
		t.Errorf("hosts: %s", said)
	}
	r.hold(hold.Change{Remove: []string{all[0]}})
	r.retention.Apply()
	if got := r.days(); !slices.Equal(got, want) {
		t.Errorf("held by its host: %v", got)
	}
	// Its limit may drop it first.
	r.hold(hold.Change{All: true})
	if ok, err := r.retention.DropOldest(context.Background(), "space_left_action"); err != nil || !cmp.Equal(all[3:], r.days()) {
		t.Errorf("off hold: %v, %v, %v", ok, err, r.days())
	}
}

func strs(list [][]byte) (out []string) {
	for _, b := range list {
		out = append(out, string(b))
	}
	return out
}

// The disk is full and everything is on hold: nothing is dropped, records are refused as on any full disk, and
// are taken again once something is off hold.
func TestHeldOnFullDisk(t *testing.T) {
	t.Parallel()
	d := &fakeDisk{}
	d.free.Store(900 * mib)
	r, _ := fourDays(t, func(c *Config) {
		c.Space = space.Limits{Reserve: 50 * mib, DiskFullAction: conf.Action{Do: conf.DoRotate}}
		c.free = d.space
	})
	all := r.days()
	r.hold(hold.Change{Add: []string{"web*"}})
	r.setFree(d, 40)
	c := r.dial()
	send := func(n int, want remote.Type) {
		t.Helper()
		if f := sendOne(t, c, uint32(n), []byte(userRecord("web1", n))); f.Type != want {
			t.Errorf("record %d: %v, want %v", n, f.Type, want)
		}
	}
	send(50, remote.DiskFull)
	eventually(t, "it is said", func() bool {
		return strings.Contains(r.log.String(), "nothing can be dropped: all sealed days are on hold")
	})
	if got := r.days(); !slices.Equal(got, all) {
		t.Errorf("dropped: %v are left", got)
	}
	r.hold(hold.Change{Remove: []string{"web*"}})
	eventually(t, "off hold it makes room", func() bool { r.space.Admit(4 * mib); return len(r.days()) == 1 })
	r.setFree(d, 900)
	send(51, remote.Ack)
}

// Holds outlive restarts, are changed in a store at rest, which the next start records, and survive a kill
// before their records were stored; a list that is damaged has everything stay.
func TestHoldsOverRestarts(t *testing.T) {
	t.Parallel()
	r, _ := fourDays(t, nil)
	all := r.days()
	cfg := r.cfg
	r.hold(hold.Change{Add: []string{all[1]}})
	r.stop()
	log := hclog.New(&hclog.LoggerOptions{Output: io.Discard})
	if _, err := ChangeHolds(cfg.Store, hold.Change{Add: []string{all[0]}, Remove: []string{all[1]}}, log); err != nil {
		t.Fatal(err)
	}
	again := func() *running {
		c := cfg
		c.Listen, c.HTTP = testConfig(cfg.Store).Listen, testConfig(cfg.Store).HTTP
		c.Retention.MaxDays = 1
		return start(t, c)
	}
	r = again()
	eventually(t, "held over the restart", func() bool { return cmp.Equal([]string{all[0], all[3]}, r.days()) })
	for _, want := range []string{`op=hold-add hold="` + all[0], `op=hold-remove hold="` + all[1]} {
		eventually(t, "recorded: "+want, func() bool { return strings.Count(r.ownText(), want) == 1 })
	}
	r.stop()
	path := filepath.Join(cfg.Store, hold.Name)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), "unsaid") {
		t.Errorf("after an end in good order changes wait for their records:\n%s", b)
	}
	if err := os.WriteFile(path, b[1:], 0o600); err != nil {
		t.Fatal(err)
	}
	r = again()
	eventually(t, "it is said", func() bool { return strings.Contains(r.log.String(), "everything is on hold") })
	r.retention.Apply()
	if ok, err := r.retention.DropOldest(context.Background(), "disk_full_action"); ok || err != nil {
		t.Errorf("dropped with a damaged list: %v, %v", ok, err)
	}
	if _, body := get(t, r, "/metrics"); !strings.Contains(body, "auditfleet_collector_holds_broken 1\n") {
		t.Error("metrics do not say that the list is damaged")
	}
	r.hold(hold.Change{All: true})
	if ok, err := r.retention.DropOldest(context.Background(), "disk_full_action"); !ok || err != nil || !cmp.Equal(all[3:], r.days()) {
		t.Errorf("a new list does not let go: %v, %v, %v", ok, err, r.days())
	}
}
