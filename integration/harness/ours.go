package harness

import (
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
)

// Collector is a running `collector serve`.
type Collector struct {
	*Proc
	bin   string
	Store string
	Port  int    // audisp-remote
	HTTP  string // host:port
	net   *Netns
}

// CollectorOptions holds the settings of a Collector. The zero value of each leaves the
// default.
type CollectorOptions struct {
	Store string // needed
	// Cluster is the --store of a collector whose events are in a cluster; Store is then its folder. Empty: they are in Store.
	Cluster string
	Port    int      // 0 picks a free one
	HTTP    int      // likewise
	Flush   string   // sync, data, incremental, …
	Args    []string // more flags, they win
	Bind    [][2]string
	Files   int    // how many files it may have open
	Net     *Netns // where it runs; nil: here
}

// StartCollector starts `collector serve` on loopback and waits until it is ready.
func StartCollector(bins *Binaries, o CollectorOptions) (*Collector, error) {
	c, err := LaunchCollector(bins, o)
	if err != nil {
		return nil, err
	}
	if err := c.WaitReady(time.Minute); err != nil {
		c.Kill()
		return nil, err
	}
	return c, nil
}

// LaunchCollector starts `collector serve` as StartCollector does but does not wait until
// it is ready. It serves tests that expect the start to fail.
func LaunchCollector(bins *Binaries, o CollectorOptions) (*Collector, error) {
	port := o.Port
	var err error
	if port == 0 {
		if port, err = need.FreePort(); err != nil {
			return nil, err
		}
	}
	web := o.HTTP
	if web == 0 {
		if web, err = need.FreePort(); err != nil {
			return nil, err
		}
	}
	c := &Collector{bin: bins.Collector, Store: o.Store, Port: port, HTTP: "127.0.0.1:" + strconv.Itoa(web), net: o.Net}
	store := []string{"--store", o.Store}
	if o.Cluster != "" {
		store = []string{"--store", o.Cluster, "--store-folder", o.Store}
	}
	args := append([]string{bins.Collector, "serve", "--http", c.HTTP}, store...)
	if !slices.Contains(o.Args, "--listen") { // which may be given once
		args = append(args, "--listen", c.Addr())
	}
	if o.Flush != "" {
		args = append(args, "--flush", o.Flush)
	}
	if o.Files > 0 {
		args = append([]string{"sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$@"`, o.Files), "sh"}, args...)
	}
	c.Proc, err = Start(Spec{Name: "collector serve", Args: o.Net.Args(append(args, o.Args...)...), Bind: o.Bind, Env: raceEnv()})
	return c, err
}

// raceEnv makes a race in a binary built with the detector fail its test.
func raceEnv() []string { return []string{"GORACE=halt_on_error=1 exitcode=66"} }

// Addr returns the address on which the collector listens for senders.
func (c *Collector) Addr() string { return "127.0.0.1:" + strconv.Itoa(c.Port) }

// WaitReady waits, at most limit, until /readyz reports that the collector is ready.
func (c *Collector) WaitReady(limit time.Duration) error {
	client := webClient(c.net, time.Second)
	last := "no answer"
	ready := Poll(limit, func() bool {
		if c.Exited() {
			return true
		}
		resp, err := client.Get("http://" + c.HTTP + "/readyz")
		if err != nil {
			last = err.Error()
			return false
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
		last = resp.Status + " " + string(body)
		return resp.StatusCode == http.StatusOK
	})
	if c.Exited() {
		return fmt.Errorf("collector serve ended instead of getting ready: %w; its output:\n%s", c.ended(), c.Output())
	}
	if !ready {
		return fmt.Errorf("collector serve not ready after %v: %s; its output:\n%s", limit, last, c.Output())
	}
	return nil
}

// Search runs `collector search` on the collector's store, with args appended.
func (c *Collector) Search(limit time.Duration, args ...string) (*Result, error) {
	// What tests lose on purpose has tests of its own, of what is said of it.
	return Run(limit, append([]string{c.bin, "search", "--store", c.Store, "--no-coverage-note"}, args...)...)
}

// Command runs another subcommand of the collector on its store.
func (c *Collector) Command(limit time.Duration, name string, args ...string) (*Result, error) {
	return Run(limit, append([]string{c.bin, name, "--store", c.Store}, args...)...)
}

// StartForwarder starts `forwarder run` with a spool and state below dir.
func StartForwarder(bins *Binaries, dir, remote, source string, in io.Reader, args ...string) (*Proc, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	all := []string{bins.Forwarder, "run", "--remote", remote, "--source", source, "--spool", filepath.Join(dir, "spool")}
	if source == "kernel" {
		all = append(all, "--state", filepath.Join(dir, "serial"))
	}
	return Start(Spec{Name: "forwarder run", Args: append(all, args...), In: in, Env: raceEnv()})
}

// DirSize returns the size of the regular files below dir on disk, in bytes: space that
// is allocated in advance counts, holes do not.
func DirSize(dir string) (int64, error) {
	var sum int64
	err := filepath.Walk(dir, func(_ string, info fs.FileInfo, err error) error {
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode().IsRegular() {
			sum += st.Blocks * 512
		}
		return nil
	})
	return sum, err
}

// SyncTime returns the median time that it takes to append 4 KiB to a file in dir and
// sync it.
func SyncTime(dir string) (time.Duration, error) {
	f, err := os.CreateTemp(dir, "sync-")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	block := make([]byte, 4096)
	var took []time.Duration
	for range 100 {
		begin := time.Now()
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return 0, err
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

// webClient asks what listens on loopback in a namespace.
func webClient(n *Netns, limit time.Duration) *http.Client {
	return &http.Client{Timeout: limit, Transport: &http.Transport{DisableKeepAlives: true, DialContext: n.DialContext}}
}

// Metric returns the value of a counter or gauge from /metrics, summed over its label
// values.
func (c *Collector) Metric(name string) (float64, error) { return metric(c.net, c.HTTP, name) }

// metric is Metric of what listens at addr.
func metric(n *Netns, addr, name string) (float64, error) {
	resp, err := webClient(n, time.Minute).Get("http://" + addr + "/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	sum, found := 0.0, false
	for _, line := range strings.Split(string(text), "\n") {
		at, value, ok := strings.Cut(line, " ")
		base, _, _ := strings.Cut(at, "{")
		if !ok || base != name {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("metric %s: %w", name, err)
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("no metric %s", name)
	}
	return sum, nil
}
