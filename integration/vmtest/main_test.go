// Package vmtest tries the packages as installed on real hosts that have really booted: a
// Debian with systemd, journald, getty and sshd, under emulation. `make vmtest` runs it;
// README.md beside it has the table of what is tried. Each test is one row, has guests of
// its own, and two run at a time. Package lab makes and drives the guests.
package vmtest

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/vmtest/lab"
)

// packagesKey names the folder of packages; without it there is nothing to try.
const packagesKey = "AUDITFLEET_VMTEST"

var (
	machines *lab.Lab
	ctx      = context.Background()

	mu   sync.Mutex // guards rows
	rows []string
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	packages := os.Getenv(packagesKey)
	if packages == "" {
		return m.Run() // each row skips
	}
	var stop context.CancelFunc
	ctx, stop = signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	root, err := filepath.Abs("../..")
	if err == nil {
		machines, err = lab.Open(ctx, lab.Config{Packages: packages, Root: root, Logs: os.Getenv(packagesKey + "_LOGS"), Said: os.Stderr})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer machines.Close()
	go func() {
		<-ctx.Done()
		_ = machines.Close() // the rows then fail, soon
	}()
	code := m.Run()
	if len(rows) > 0 {
		slices.Sort(rows)
		fmt.Printf("\n| row | result | time |\n|---|---|---|\n%s", strings.Join(rows, ""))
	}
	return code
}

// asDebian is a host as an administrator sets one up that is its own log host; ready is one
// that has heeded what doctor advises then.
const asDebian = `
echo "remote = 127.0.0.1" >>/etc/auditfleet/forwarder.conf
systemctl enable auditfleet-forwarder auditfleet-collector
mkdir /etc/vmtest
echo "-w /etc/vmtest -p wa -k vmtest" >/etc/audit/rules.d/vmtest.rules
`

const ready = asDebian + `
mkdir -p /etc/systemd/journald.conf.d
printf '[Journal]\nAudit=yes\n' >/etc/systemd/journald.conf.d/audit.conf
echo "-b 8192" >/etc/audit/rules.d/backlog.rules
`

// audited is what the kernel is told of such a host.
var audited = []string{"audit=1", "audit_backlog_limit=8192"}

// host is a guest of one row. A command that fails ends the row.
type host struct {
	*testing.T
	*lab.Guest
}

// row says that a test boots guests: it is skipped elsewhere than in make vmtest, and its
// result goes into the table.
func row(t *testing.T) {
	t.Helper()
	if machines == nil {
		t.Skip("make vmtest runs it")
	}
	t.Parallel()
	begun := time.Now()
	t.Cleanup(func() {
		result := "ok"
		if t.Failed() {
			result = "**failed**"
		} else if t.Skipped() {
			result = "skipped"
		}
		mu.Lock()
		defer mu.Unlock()
		rows = append(rows, fmt.Sprintf("| %s | %s | %.0f s |\n", strings.TrimPrefix(t.Name(), "Test"), result, time.Since(begun).Seconds()))
	})
}

// machine makes a guest with these packages and what was prepared, switched off, and ends it
// with the row.
func machine(t *testing.T, prepare string, packages ...string) *host {
	t.Helper()
	return of(t, lab.Spec{Name: t.Name(), Image: image(t, prepare, packages...)})
}

// auditing boots a host that is its own log host, with further packages, and waits until it audits: what
// most rows begin with.
func auditing(t *testing.T, prepare string, further ...string) *host {
	t.Helper()
	return machine(t, prepare, append([]string{"forwarder", "collector"}, further...)...).audit()
}

func image(t *testing.T, prepare string, packages ...string) string {
	t.Helper()
	path, err := machines.Image(ctx, prepare, packages...)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func of(t *testing.T, spec lab.Spec) *host {
	t.Helper()
	g, err := machines.Guest(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Kill)
	return &host{T: t, Guest: g}
}

// boot switches it on and waits until all has started.
func (h *host) boot(words ...string) {
	h.Helper()
	if err := h.Boot(ctx, words...); err != nil {
		h.Fatal(err)
	}
	h.settle()
}

// audit boots with auditing on, and waits until the forwarder is registered.
func (h *host) audit() *host {
	h.Helper()
	h.boot(audited...)
	h.registered()
	return h
}

func (h *host) settle() {
	h.Helper()
	if err := h.Settle(ctx); err != nil {
		h.Fatal(err)
	}
}

func (h *host) reboot() {
	h.Helper()
	if err := h.Reboot(ctx); err != nil {
		h.Fatal(err)
	}
	h.settle()
}

// off switches it off as an administrator does.
func (h *host) off() {
	h.Helper()
	if err := h.PowerOff(ctx); err != nil {
		h.Fatal(err)
	}
}

// sh runs a command that must succeed, and returns what it printed.
func (h *host) sh(command string) string {
	h.Helper()
	out, err := h.Must(ctx, command)
	if err != nil {
		h.Fatal(err)
	}
	return out
}

// try runs a command that may fail; it returns what it printed and its exit code.
func (h *host) try(command string) (string, int) {
	h.Helper()
	r, err := h.Guest.Run(ctx, command)
	if err != nil {
		h.Fatal(err)
	}
	return r.Out + r.Err, r.Code
}

// until waits until a command succeeds.
func (h *host) until(command string) string {
	h.Helper()
	out, err := h.Until(ctx, command)
	if err != nil {
		h.Fatal(err)
	}
	return out
}

// has wants each of the words in text, lacks none.
func (h *host) has(text string, words ...string) {
	h.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			h.Errorf("not said: %q; said:\n%s", word, text)
		}
	}
}

func (h *host) lacks(text string, words ...string) {
	h.Helper()
	for _, word := range words {
		if strings.Contains(text, word) {
			h.Errorf("said: %q, in:\n%s", word, text)
		}
	}
}
