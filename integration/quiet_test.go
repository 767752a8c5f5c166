package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/madeday"
	"github.com/auditfleet/auditfleet/internal/need"
)

// TestQuietDayOfBinaries has the real forwarder hand a made day of several hosts' ordinary work to the real collector,
// and both are killed in mid-stream: the collector answers that every host's trail is complete.
func TestQuietDayOfBinaries(t *testing.T) {
	const minutes = 24 * 60
	day := madeday.New(madeday.Config{Seed: need.Seed(t), Begin: time.Now().Add(-(minutes + 5) * time.Minute), Hosts: 4, Minutes: minutes, Rate: 1})
	var log bytes.Buffer
	next, lines := map[string]uint64{}, 0
	add := func(list []madeday.Batch) {
		for _, b := range list {
			for _, l := range b.Lines {
				if l.Index >= next[b.Host.Name] { // else it comes again
					next[b.Host.Name] = l.Index + 1
					log.Write(append(l.Raw, '\n'))
					lines++
				}
			}
		}
	}
	for !day.Over() {
		add(day.Minute(true))
	}
	add(day.Settle())
	dir := t.TempDir()
	file := filepath.Join(dir, "audit.log")
	if err := os.WriteFile(file, log.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}

	o := harness.CollectorOptions{Store: filepath.Join(dir, "store"), Args: []string{"--tcp-max-per-addr", "64"}}
	c := startCollector(t, o)
	o.Port = c.Port
	link, err := harness.NewProxy(c.Addr(), 2*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { link.Close() })
	start := func() *harness.Proc {
		return startForwarder(t, dir, link.Addr(), file, nil, "--follow", "--state", filepath.Join(dir, "state"), "--window", "64")
	}
	p := start()
	for kill := range 4 {
		if !harness.Poll(time.Minute, func() bool {
			n, err := c.Metric("auditfleet_collector_records_total")
			return err == nil && n > float64(lines)/20
		}) {
			t.Logf("nothing flows any more before kill %d", kill)
			break
		}
		if kill%2 == 0 {
			p.Kill()
			p = start()
		} else {
			c.Kill()
			c = startCollector(t, o)
		}
	}
	var said string
	end := day.Now().Add(-4 * time.Minute)
	if !harness.Poll(2*time.Minute, func() bool {
		r, err := c.Command(time.Minute, "coverage", "-n", "host*", "-te", end.Format("01/02/2006"), end.Format("15:04:05"), "--format", "json", "--detail")
		if err != nil {
			return false
		}
		said = string(r.Stdout)
		return r.Code == 0 && complete(said, lines) == ""
	}) {
		t.Errorf("%s\n%s\nthe forwarder's output:\n%s", complete(said, lines), said, p.Output())
	}
	if err := p.Terminate(time.Minute); err != nil {
		t.Error(err)
	}
}

// complete says what an answer about the hosts of a day, as JSON, lacks.
func complete(said string, lines int) string {
	hosts, records := 0, 0
	for _, line := range strings.Split(strings.TrimSpace(said), "\n") {
		var a struct {
			Host, State string
			Records     int
		}
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			return err.Error()
		}
		if a.State != "complete" {
			return a.Host + " is " + a.State
		}
		hosts, records = hosts+1, records+a.Records
	}
	if hosts != 4 || records < lines*9/10 { // the slots of the first and the last minute are not all of the answer's
		return fmt.Sprintf("%d hosts with %d records, of %d", hosts, records, lines)
	}
	return ""
}
