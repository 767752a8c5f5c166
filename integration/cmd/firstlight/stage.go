package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

//go:embed testdata/sample.log
var sampleLog []byte

// stage is the temporary folder and the two programs of one run.
type stage struct {
	forwarderBin, collectorBin string
	dir, store, listen         string
	host                       string // this machine's name, which its certificate proves
	keep                       bool
	running                    []*exec.Cmd // in order of their start
}

func newStage(bin string, keep bool) (*stage, error) {
	abs, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "auditfleet-run-")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	return &stage{
		forwarderBin: filepath.Join(abs, "forwarder"), collectorBin: filepath.Join(abs, "collector"),
		dir: dir, store: filepath.Join(dir, "store"), listen: port, keep: keep, host: hostName(),
	}, nil
}

// hostName is this machine's name as a certificate can have it.
func hostName() string {
	name, err := os.Hostname()
	name = strings.ToLower(name)
	if err != nil || name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" {
		return "this-host"
	}
	return name
}

// certify makes a CA in the folder, and certificates of the collector and of this host.
func (s *stage) certify(ctx context.Context) error {
	ca, tls := filepath.Join(s.dir, "ca"), filepath.Join(s.dir, "tls")
	for _, args := range [][]string{
		{"ca", "init", "--dir", ca},
		{"ca", "issue", "log-host", "--ip", "127.0.0.1", "--dir", ca, "--out", tls},
		{"ca", "issue", s.host, "--dir", ca, "--out", filepath.Join(s.dir, "tls-host")},
	} {
		fmt.Printf("$ collector %s\n", strings.Join(args, " "))
		if out, err := exec.CommandContext(ctx, s.collectorBin, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("collector %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// tls are the options of a program that has its certificate in a folder.
func (s *stage) tls(folder, name string) []string {
	file := func(ending string) string { return filepath.Join(s.dir, folder, ending) }
	return []string{"--tls-ca", file("ca.crt"), "--tls-cert", file(name + ".crt"), "--tls-key", file(name + ".key")}
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// start runs a program in the background, its messages in DIR/NAME.log.
func (s *stage) start(name, path string, args ...string) (*exec.Cmd, error) {
	log, err := os.Create(filepath.Join(s.dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = log, log
	// An interrupt at the terminal is for this program, which then stops the others in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	fmt.Printf("$ %s %s\n", name, strings.Join(args, " "))
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	s.running = append(s.running, cmd)
	return cmd, nil
}

func (s *stage) startCollector(ctx context.Context) error {
	if err := s.certify(ctx); err != nil {
		return err
	}
	cmd, err := s.start("collector", s.collectorBin, append([]string{"serve", "--store", s.store, "--listen=", "--grpc", s.listen, "--http="}, s.tls("tls", "log-host")...)...)
	if err != nil {
		return err
	}
	return s.await(ctx, cmd, "collector", func() bool {
		_, err := os.Stat(filepath.Join(s.store, "collector.sock"))
		return err == nil
	})
}

// await polls until ready, the program's end, or ten seconds.
func (s *stage) await(ctx context.Context, cmd *exec.Cmd, name string, ready func() bool) error {
	deadline := time.Now().Add(10 * time.Second)
	for !ready() {
		if cmd.Process.Signal(syscall.Signal(0)) != nil || exited(cmd.Process.Pid) || time.Now().After(deadline) {
			said, _ := os.ReadFile(filepath.Join(s.dir, name+".log"))
			return fmt.Errorf("the %s did not come up; it said:\n%s", name, said)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// exited tells whether a child is a zombie: ended, but not waited for.
func exited(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, after, _ := bytes.Cut(stat, []byte(") "))
	return bytes.HasPrefix(after, []byte("Z"))
}

func (s *stage) forwarderArgs(more ...string) ([]string, error) {
	conf := filepath.Join(s.dir, "auditd.conf")
	text := fmt.Sprintf("log_file = %s\nlog_format = RAW\nname_format = NONE\n", filepath.Join(s.dir, "log", "audit.log"))
	if err := os.WriteFile(conf, []byte(text), 0o640); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(s.dir, "log"), 0o700); err != nil {
		return nil, err
	}
	args := []string{"--config", conf, "--transport", "grpc", "--remote", s.listen, "--spool", filepath.Join(s.dir, "spool"), "--node", s.host, "--http="}
	return append(append(args, s.tls("tls-host", s.host)...), more...), nil
}

func (s *stage) startForwarder(_ context.Context, more ...string) error {
	args, err := s.forwarderArgs(more...)
	if err != nil {
		return err
	}
	_, err = s.start("forwarder", s.forwarderBin, args...)
	return err
}

// forwardFile runs a forwarder that ends when all of path is acknowledged.
func (s *stage) forwardFile(ctx context.Context, path string) error {
	args, err := s.forwarderArgs("--source", path)
	if err != nil {
		return err
	}
	fmt.Printf("$ forwarder %s\n", strings.Join(args, " "))
	out, err := exec.CommandContext(ctx, s.forwarderBin, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("forwarder: %w\n%s", err, out)
	}
	return nil
}

// find asks the collector until it has the event, and shows it and the time
// from since to found.
func (s *stage) find(ctx context.Context, since time.Time, what ...string) error {
	args := append([]string{"search", "--store", s.store}, what...)
	deadline := time.Now().Add(20 * time.Second)
	for {
		out, err := exec.CommandContext(ctx, s.collectorBin, args...).Output()
		took := time.Since(since)
		if err == nil {
			fmt.Printf("\n$ collector %s\n%s\nFound %s after it happened.\n", strings.Join(args, " "), out, took.Round(time.Millisecond))
			return nil
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not found within 20 s: collector %s: %w\n%s", strings.Join(args, " "), err, exit.Stderr)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *stage) hosts(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, s.collectorBin, "hosts", "--store", s.store).CombinedOutput()
	if err != nil {
		return fmt.Errorf("collector hosts: %w\n%s", err, out)
	}
	fmt.Printf("\n$ collector hosts --store %s\n%s\nTLS: that the records are %s's is proved by its certificate, whatever they say themselves.\n", s.store, out, s.host)
	return nil
}

func (s *stage) sayHowToStop(key string) {
	var pids []string
	for i := len(s.running) - 1; i >= 0; i-- {
		pids = append(pids, fmt.Sprint(s.running[i].Process.Pid))
	}
	fmt.Printf(`
Both programs go on. Look around:
  %[1]s search --store %[2]s -k %[3]s
  %[1]s hosts --store %[2]s
Stop them (forwarder first: it hands the kernel's audit back), and remove their files:
  kill %[4]s
  rm -r %[5]s
`, s.collectorBin, s.store, key, strings.Join(pids, " "), s.dir)
}

// close ends the programs, last started first, and removes the folder; with
// keep it leaves both alone. A second call does nothing.
func (s *stage) close() error {
	if s.keep {
		return nil
	}
	var errs []error
	for i := len(s.running) - 1; i >= 0; i-- {
		errs = append(errs, s.end(s.running[i]))
	}
	s.running = nil
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

func (s *stage) end(cmd *exec.Cmd) error {
	name := filepath.Base(cmd.Path)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop %s: %w", name, err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			said, _ := os.ReadFile(filepath.Join(s.dir, name+".log"))
			return fmt.Errorf("%s: %w\n%s", name, err, said)
		}
		return nil
	case <-time.After(20 * time.Second):
		return errors.Join(fmt.Errorf("%s did not end within 20 s of SIGTERM", name), cmd.Process.Kill())
	}
}
