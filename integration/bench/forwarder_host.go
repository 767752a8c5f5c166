package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
)

// hostLoad is what the audited program does.
type hostLoad struct {
	name    string
	events  int
	rate    int // a second, 0: as fast as it can
	getppid bool
}

// hostSide is a host's side: the stock daemon with its sender, or the forwarder.
type hostSide struct {
	name  string
	start func(b *bench, h *host) (*harness.Proc, error)
}

// hostSetup is how a run is set up besides its side.
type hostSetup struct {
	load     hostLoad
	server   serverKind
	oneWay   time.Duration
	cutAfter time.Duration // after this long the link is cut …
	cutFor   time.Duration // … for this long; 0: never
	wait     time.Duration // for what is left to go out after the load
	enriched bool
	plugins  bool
}

// hostRun is what one run showed.
type hostRun struct {
	perRecord   float64 // µs of CPU of all the side's processes, a record in the log
	kernelPer   float64 // µs of kauditd, a record
	peak        int64
	perOp       time.Duration // of the audited program
	lost        int           // as the kernel counts
	overruns    int           // ENOBUFS, ours
	notLogged   int           // events
	notAtServer int           // events
	settled     bool          // all was done before the wait was over
	stalled     bool          // the program was ended: it was not done within workLimit
}

// host is a run under way.
type host struct {
	dir, exe, rule string
	setup          hostSetup
	port           int // where to ship to
	log            string
	web            string // our metrics, "" for stock
}

const benchKey = harness.KeyPrefix + "bench"

// auditdConf is the same for both: what Debian ships, but for paths, rotation
// that keeps all (the records are counted afterwards) and what says no on a disk
// that others fill.
func (h *host) auditdConf() map[string]string {
	format := "RAW"
	if h.setup.enriched {
		format = "ENRICHED"
	}
	return map[string]string{
		"log_format": format, "flush": "INCREMENTAL_ASYNC", "freq": "50", "max_log_file": "8", "num_logs": "99",
		"max_log_file_action": "ROTATE", "q_depth": "2000", "overflow_action": "IGNORE", "plugin_dir": filepath.Join(h.dir, "plugins.d"),
	}
}

func (h *host) writePlugins(remote bool) error {
	dir := filepath.Join(h.dir, "plugins.d")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	files := map[string]string{}
	if remote {
		files["au-remote.conf"] = "active = yes\ndirection = out\npath = /sbin/audisp-remote\ntype = always\nformat = string\n"
	}
	if h.setup.plugins {
		files["af_unix.conf"] = "active = yes\ndirection = out\npath = builtin_af_unix\ntype = builtin\nargs = 0640 " + h.socket() + "\nformat = string\n"
		files["syslog.conf"] = "active = yes\ndirection = out\npath = /sbin/audisp-syslog\ntype = always\nargs = LOG_INFO\nformat = string\n"
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640); err != nil {
			return err
		}
	}
	return nil
}

func (h *host) socket() string { return filepath.Join(h.dir, "events") }

// stockSide is auditd with audisp-remote as its plugin. What it ships is as its
// shipped configuration has it.
func stockSide(_ *bench, h *host) (*harness.Proc, error) {
	if err := h.writePlugins(true); err != nil {
		return nil, err
	}
	conf := filepath.Join(h.dir, "audisp-remote.conf")
	text := fmt.Sprintf("remote_server = 127.0.0.1\nport = %d\ntransport = tcp\nqueue_file = %s/remote.log\nmode = immediate\nqueue_depth = 10240\n"+
		"format = managed\nnetwork_retry_time = 1\nmax_tries_per_record = 3\nmax_time_per_record = 5\nheartbeat_timeout = 0\n"+
		"network_failure_action = stop\nremote_ending_action = reconnect\noverflow_action = ignore\nstartup_failure_action = warn_once_continue\n", h.port, h.dir)
	if err := os.WriteFile(conf, []byte(text), 0o640); err != nil {
		return nil, err
	}
	a, err := harness.StartAuditdDaemon(filepath.Join(h.dir, "auditd"), h.auditdConf(), [2]string{conf, "/etc/audit/audisp-remote.conf"})
	if err != nil {
		return nil, err
	}
	h.log = a.LogFile
	return a.Proc, nil
}

// ourSide is the forwarder with the same auditd.conf.
func ourSide(b *bench, h *host) (*harness.Proc, error) {
	if err := h.writePlugins(false); err != nil {
		return nil, err
	}
	h.log = filepath.Join(h.dir, "log", "audit.log")
	if err := os.Mkdir(filepath.Dir(h.log), 0o700); err != nil {
		return nil, err
	}
	text := "log_file = " + h.log + "\npriority_boost = 0\nspace_left = 75\nadmin_space_left = 50\n"
	for k, v := range h.auditdConf() {
		text += k + " = " + v + "\n"
	}
	conf := filepath.Join(h.dir, "auditd.conf")
	if err := os.WriteFile(conf, []byte(text), 0o640); err != nil {
		return nil, err
	}
	web, err := need.FreePort()
	if err != nil {
		return nil, err
	}
	h.web = "127.0.0.1:" + strconv.Itoa(web)
	p, err := harness.StartForwarder(b.bins, h.dir, "127.0.0.1:"+strconv.Itoa(h.port), "kernel", nil,
		"--config", conf, "--http", h.web, "--report", filepath.Join(h.dir, "state"))
	if err != nil {
		return nil, err
	}
	if !harness.Poll(10*time.Second, func() bool { st, err := kernelPid(); return p.Exited() || err == nil && st == p.Pid() }) || p.Exited() {
		p.Kill()
		return nil, fmt.Errorf("the forwarder did not register; its output:\n%s", p.Output())
	}
	return p, nil
}

func kernelStatus(name string) (int, error) {
	r, err := harness.Run(10*time.Second, "/sbin/auditctl", "-s")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(r.Stdout)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			return strconv.Atoi(f[1])
		}
	}
	return 0, fmt.Errorf("auditctl -s says nothing of %s", name)
}

func kernelPid() (int, error) { return kernelStatus("pid") }

// workLimit is how long an audited program may take.
const workLimit = 3 * time.Minute

// work runs the audited program and returns what one operation took it.
func (h *host) work(b *bench) (time.Duration, error) {
	l := h.setup.load
	args := []string{h.exe, "getppid", "-n", strconv.Itoa(l.events)}
	if !l.getppid {
		args = []string{b.bins.Work, "exec", "-n", strconv.Itoa(l.events), "-rate", strconv.Itoa(l.rate), h.exe}
	}
	r, err := harness.Run(workLimit, args...)
	if err != nil {
		return 0, err
	}
	var n, wall, busy int64
	if _, err := fmt.Sscan(string(r.Stdout), &n, &wall, &busy); err != nil || r.Code != 0 || n != int64(l.events) {
		return 0, fmt.Errorf("%q: exit %d, %s%s", args, r.Code, r.Stdout, r.Stderr)
	}
	return time.Duration(busy / n), nil
}

// prepare makes the audited program and says by which rule it is audited.
func (h *host) prepare(b *bench) error {
	h.exe = filepath.Join(h.dir, "audited")
	if h.setup.load.getppid {
		h.rule = "getppid"
		text, err := os.ReadFile(b.bins.Work)
		if err != nil {
			return err
		}
		return os.WriteFile(h.exe, text, 0o755)
	}
	h.rule = "execve"
	return writeTiny(h.exe)
}

// baseline is the audited program without daemon and rule.
func (b *bench) baseline(l hostLoad) (time.Duration, error) {
	dir, err := b.scratch("baseline")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	h := &host{dir: dir, setup: hostSetup{load: l}}
	if err := h.prepare(b); err != nil {
		return 0, err
	}
	lock, err := lockKernel()
	if err != nil {
		return 0, err
	}
	defer lock.Close()
	return h.work(b)
}

// runHost runs a load under one side.
func (b *bench) runHost(side hostSide, s hostSetup) (r hostRun, returned error) {
	dir, err := b.scratch("host")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	h := &host{dir: dir, setup: s}
	if err := h.prepare(b); err != nil {
		return r, err
	}
	addr, server, err := s.server.start(b, filepath.Join(dir, "server"))
	if err != nil {
		return r, err
	}
	defer server.Kill()
	var proxy *harness.Proxy
	if s.oneWay > 0 {
		if proxy, err = harness.NewProxy(addr, s.oneWay); err != nil {
			return r, err
		}
		defer proxy.Close()
		addr = proxy.Addr()
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return r, err
	}
	if h.port, err = strconv.Atoi(port); err != nil {
		return r, err
	}
	lock, err := lockKernel()
	if err != nil {
		return r, err
	}
	defer lock.Close()
	kernel, err := harness.OpenKernel()
	if err != nil {
		return r, err
	}
	defer func() { returned = errors.Join(returned, kernel.Close()) }()
	if s.plugins {
		done, err := listenSyslog()
		if err != nil {
			return r, err
		}
		defer done()
	}
	p, err := side.start(b, h)
	if err != nil {
		return r, err
	}
	defer p.Kill()
	if err := h.measure(b, kernel, p, proxy, &r); err != nil {
		return r, fmt.Errorf("%s: %w; its output:\n%s", side.name, err, p.Output())
	}
	if r.notLogged, err = countEvents(h.log, s.load.events); err != nil {
		return r, err
	}
	r.notAtServer, err = b.notAtServer(s, filepath.Join(dir, "server"), server)
	return r, err
}

// measure is the part of runHost in which the daemon works.
func (h *host) measure(b *bench, kernel *harness.Kernel, p *harness.Proc, proxy *harness.Proxy, r *hostRun) error {
	if res, err := harness.Run(10*time.Second, "/sbin/auditctl", "-b", "8192"); err != nil || res.Code != 0 { // as the shipped audit.rules
		return fmt.Errorf("auditctl -b: %w", err)
	}
	if h.setup.plugins {
		c, err := net.Dial("unix", h.socket())
		if err != nil {
			return err
		}
		defer c.Close()
		go io.Copy(io.Discard, c) //nolint:errcheck // ends with the connection
	}
	if err := kernel.Add("always,exit", "-F", "arch=b64", "-S", h.rule, "-F", "exe="+h.exe, "-k", benchKey); err != nil {
		return err
	}
	lostBefore, err := kernelStatus("lost")
	if err != nil {
		return err
	}
	before, _, err := settleTree(p.Pid(), 500*time.Millisecond, 5*time.Second)
	if err != nil {
		return err
	}
	k0 := kauditd()
	begin := time.Now()
	if h.setup.cutFor > 0 {
		cut := time.AfterFunc(h.setup.cutAfter, proxy.BlackHole)
		resume := time.AfterFunc(h.setup.cutAfter+h.setup.cutFor, proxy.Resume)
		defer cut.Stop()
		defer resume.Stop()
	}
	r.perOp, err = h.work(b)
	if errors.Is(err, harness.ErrStillRan) {
		r.stalled, r.perOp = true, workLimit/time.Duration(h.setup.load.events)
	} else if err != nil {
		return err
	}
	// With the link cut there is quiet, but not the end.
	time.Sleep(time.Until(begin.Add(h.setup.cutAfter + h.setup.cutFor)))
	wait := h.setup.wait
	if wait == 0 {
		wait = 10 * time.Second
	}
	quiet := 700*time.Millisecond + 4*h.setup.oneWay
	if h.setup.cutFor > 0 {
		quiet = 5 * time.Second // a reconnection's pause is not the end
	}
	after, settled, err := settleTree(p.Pid(), quiet, wait)
	if err != nil {
		return err
	}
	k1 := kauditd()
	lostAfter, err := kernelStatus("lost")
	if err != nil {
		return err
	}
	if err := kernel.RemoveRules(); err != nil {
		return err
	}
	if h.web != "" {
		if r.overruns, err = overruns(h.web); err != nil {
			return err
		}
	}
	if err := p.Terminate(20 * time.Second); err != nil {
		return err
	}
	records, err := countLog(h.log)
	if err != nil {
		return err
	}
	r.settled, r.peak, r.lost = settled, after.peak, lostAfter-lostBefore
	r.perRecord = float64((after.cpu - before.cpu).Microseconds()) / float64(max(records, 1))
	r.kernelPer = float64((k1 - k0).Microseconds()) / float64(max(records, 1))
	return nil
}

// listenSyslog takes the place of the host's syslog where it has none.
func listenSyslog() (func(), error) {
	if _, err := os.Stat("/dev/log"); err == nil {
		return func() {}, nil
	}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "/dev/log", Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for buf := make([]byte, 16<<10); ; {
			if _, err := c.Read(buf); err != nil {
				return
			}
		}
	}()
	return func() { _ = c.Close(); <-done; os.Remove("/dev/log") }, nil
}

// overruns reads how often the kernel found our receive buffer full.
func overruns(web string) (int, error) {
	resp, err := (&http.Client{Timeout: 5 * time.Second}).Get("http://" + web + "/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		if value, ok := strings.CutPrefix(s.Text(), "auditfleet_forwarder_kernel_overruns_total "); ok {
			return strconv.Atoi(value)
		}
	}
	return 0, errors.New("no auditfleet_forwarder_kernel_overruns_total")
}

// countLog counts the records in a log and its rotated parts: all, or those with
// all of some texts in them.
func countLog(log string, texts ...string) (int, error) {
	parts, err := filepath.Glob(log + "*")
	if err != nil {
		return 0, err
	}
	n := 0
	for _, name := range parts {
		f, err := os.Open(name)
		if err != nil {
			return 0, err
		}
		s := bufio.NewScanner(f)
		s.Buffer(make([]byte, 64<<10), 1<<20)
		for s.Scan() {
			if hasAll(s.Bytes(), texts) {
				n++
			}
		}
		if err := errors.Join(s.Err(), f.Close()); err != nil {
			return 0, err
		}
	}
	return n, nil
}

func hasAll(line []byte, texts []string) bool {
	for _, t := range texts {
		if !bytes.Contains(line, []byte(t)) {
			return false
		}
	}
	return true
}

// Each event of a load has one such record. Adding the rule has its key too, in
// another type.
var theirs = []string{"type=SYSCALL ", ` key="` + benchKey + `"`}

func countEvents(log string, want int) (missing int, err error) {
	n, err := countLog(log, theirs...)
	return want - n, err
}

// notAtServer counts the events that did not come to the server.
func (b *bench) notAtServer(s hostSetup, dir string, server *harness.Proc) (int, error) {
	if strings.HasPrefix(s.server.name, "stock") {
		if err := server.Terminate(20 * time.Second); err != nil {
			return 0, err
		}
		return countEvents(filepath.Join(dir, "log", "audit.log"), s.load.events)
	}
	r, err := harness.Run(2*time.Minute, b.bins.Collector, "search", "--store", dir, "--format", "raw", "-m", "SYSCALL", "-k", benchKey)
	if err != nil {
		return 0, err
	}
	if r.Code > 1 {
		return 0, fmt.Errorf("collector search: exit %d: %s", r.Code, r.Stderr)
	}
	n := 0
	for line := range bytes.Lines(r.Stdout) {
		if hasAll(line, theirs) {
			n++
		}
	}
	return s.load.events - n, nil
}
