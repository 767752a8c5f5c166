package harness

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
)

const (
	stockAuditd  = "/sbin/auditd"
	stockRemote  = "/sbin/audisp-remote"
	remoteConf   = "/etc/audit/audisp-remote.conf"
	stockAuditMB = 10000 // max_log_file: no rotation in a test
)

// Auditd is a running stock auditd.
type Auditd struct {
	*Proc
	Dir     string // its files: conf, log, run
	LogFile string
	Port    int // 0 unless it aggregates
}

// Addr returns the loopback address on which it listens.
func (a *Auditd) Addr() string { return "127.0.0.1:" + strconv.Itoa(a.Port) }

// StartAuditdServer starts the stock auditd as an aggregating server that does not touch
// the kernel, with its files below dir. The options are added to its configuration or
// replace the harness's own (tcp_max_per_addr, flush, …).
func StartAuditdServer(dir string, options map[string]string) (*Auditd, error) {
	port, err := need.FreePort()
	if err != nil {
		return nil, err
	}
	set := map[string]string{
		"local_events":        "no",
		"tcp_listen_port":     strconv.Itoa(port),
		"tcp_listen_queue":    "5",
		"tcp_max_per_addr":    "1",
		"tcp_client_max_idle": "0",
		"use_libwrap":         "no",
		"transport":           "TCP",
		"distribute_network":  "no",
	}
	for k, v := range options {
		set[k] = v
	}
	a, err := startAuditd(dir, set)
	if err != nil {
		return nil, err
	}
	a.Port = port
	if !Poll(time.Minute, func() bool { return listening(port) || a.Exited() }) || a.Exited() {
		a.Kill()
		return nil, fmt.Errorf("stock auditd does not listen on port %d; its output:\n%s", port, a.Output())
	}
	return a, nil
}

// StartAuditdDaemon starts the stock auditd as this machine's audit daemon. The
// caller holds the lock of kernel tests and an open Kernel. Each of bind is
// {from, to} as in Spec.
func StartAuditdDaemon(dir string, options map[string]string, bind ...[2]string) (*Auditd, error) {
	set := map[string]string{"local_events": "yes"}
	for k, v := range options {
		set[k] = v
	}
	a, err := startAuditd(dir, set, bind...)
	if err != nil {
		return nil, err
	}
	registered := func() bool {
		st, err := kernelStatus()
		return err == nil && st["pid"] == a.Pid()
	}
	if !Poll(time.Minute, func() bool { return registered() || a.Exited() }) || a.Exited() {
		a.Kill()
		return nil, fmt.Errorf("stock auditd did not register with the kernel; its output:\n%s", a.Output())
	}
	return a, nil
}

func startAuditd(dir string, options map[string]string, bind ...[2]string) (*Auditd, error) {
	conf, log, run, plugins := filepath.Join(dir, "conf"), filepath.Join(dir, "log"), filepath.Join(dir, "run"), filepath.Join(dir, "plugins")
	for _, d := range []string{conf, log, run, plugins} {
		if err := os.MkdirAll(d, 0o750); err != nil {
			return nil, err
		}
	}
	set := map[string]string{
		"write_logs":              "yes",
		"log_file":                filepath.Join(log, "audit.log"),
		"log_group":               "root",
		"log_format":              "RAW",
		"flush":                   "INCREMENTAL_ASYNC",
		"freq":                    "50",
		"max_log_file":            strconv.Itoa(stockAuditMB),
		"num_logs":                "5",
		"priority_boost":          "0",
		"name_format":             "NONE",
		"max_log_file_action":     "IGNORE",
		"space_left":              "75",
		"space_left_action":       "IGNORE",
		"admin_space_left":        "50",
		"admin_space_left_action": "IGNORE",
		"disk_full_action":        "IGNORE",
		"disk_error_action":       "IGNORE",
		"q_depth":                 "20000",
		"overflow_action":         "IGNORE",
		"max_restarts":            "10",
		"plugin_dir":              plugins,
		"end_of_event_timeout":    "2",
	}
	for k, v := range options {
		set[k] = v
	}
	if err := writeConf(filepath.Join(conf, "auditd.conf"), nil, set); err != nil {
		return nil, err
	}
	p, err := Start(Spec{
		Name: "stock auditd",
		Args: []string{stockAuditd, "-n", "-c", conf},
		Bind: append(bind, [2]string{run, "/run"}), // its pid file's path is fixed
	})
	if err != nil {
		return nil, err
	}
	return &Auditd{Proc: p, Dir: dir, LogFile: set["log_file"]}, nil
}

// Lines returns the records in the daemon's log, without the daemon's own (DAEMON_…).
func (a *Auditd) Lines() ([]string, error) { return LogLines(a.LogFile) }

// LogLines returns the lines of a log and of its rotated parts, oldest first,
// without the DAEMON_ records of the stock auditd that wrote it.
func LogLines(file string) ([]string, error) {
	var parts []string
	for i := 1; ; i++ {
		name := file + "." + strconv.Itoa(i)
		if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
			break
		}
		parts = append([]string{name}, parts...)
	}
	var lines []string
	for _, name := range append(parts, file) {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		for _, line := range bytes.Split(text, []byte("\n")) {
			if len(line) == 0 || bytes.HasPrefix(line, []byte("type=DAEMON_")) {
				continue
			}
			lines = append(lines, string(line))
		}
	}
	return lines, nil
}

// StartAudispRemote starts the stock sender, reading records from in. Feed it
// through a pipe: at the end of a plain file it drops what it has queued.
// Options are added to its configuration or replace ours.
func StartAudispRemote(dir string, port int, in io.Reader, options map[string]string) (*Proc, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	set := map[string]string{
		"remote_server":          "127.0.0.1",
		"port":                   strconv.Itoa(port),
		"transport":              "tcp",
		"mode":                   "immediate",
		"queue_depth":            "200000", // it reads its input as fast as it can, and drops what does not fit
		"format":                 "managed",
		"network_retry_time":     "1",
		"max_tries_per_record":   "1000",
		"max_time_per_record":    "120",
		"heartbeat_timeout":      "0",
		"network_failure_action": "stop",
		"remote_ending_action":   "reconnect",
	}
	for k, v := range options {
		set[k] = v
	}
	conf := filepath.Join(dir, "audisp-remote.conf")
	if err := writeConf(conf, nil, set); err != nil {
		return nil, err
	}
	return Start(Spec{
		Name: "stock audisp-remote",
		Args: []string{stockRemote},
		In:   in,
		Bind: [][2]string{{conf, remoteConf}},
	})
}

// Ausearch runs the stock ausearch on a file, with args appended.
func Ausearch(limit time.Duration, file string, args ...string) (*Result, error) {
	return Run(limit, append([]string{"/sbin/ausearch", "-if", file}, args...)...)
}
