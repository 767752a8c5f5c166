// Command demo is `make demo`: it makes a store of five hosts and five days, in which README.md's tour
// and questions can be asked. What the hosts send is made, the same each time; it goes through
// a real collector and real forwarders. Nothing outside of its folder is touched.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	bin := flag.String("bin", "bin", "folder with the forwarder and collector binaries")
	dir := flag.String("dir", "demo", "folder to make; one that this command has made before is made anew")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, *bin, *dir)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "make demo:", err)
		os.Exit(1)
	}
}

// mark is a file by which a folder is known as this command's.
const mark = "made-by-make-demo"

// run makes the folder among the temporary files, which tidy.sh removes however it ends, and puts it in its place when it
// is whole.
func run(ctx context.Context, bin, dir string) (returnedErr error) {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(dir); err == nil {
		if _, err := os.Stat(filepath.Join(dir, mark)); err != nil {
			return fmt.Errorf("%s is there, and not of this command: name another folder (make demo DEMO=FOLDER)", dir)
		}
		if c, err := net.Dial("unix", filepath.Join(dir, "store", "collector.sock")); err == nil {
			return errors.Join(fmt.Errorf("a collector runs with %s: end it first, or name another folder (make demo DEMO=FOLDER)", filepath.Join(dir, "store")), c.Close())
		}
	}
	work, err := os.MkdirTemp("", "demo-")
	if err != nil {
		return err
	}
	defer func() { returnedErr = errors.Join(returnedErr, os.RemoveAll(work)) }()
	records, err := build(ctx, bin, work)
	if err != nil {
		return err
	}
	if err := put(ctx, work, dir); err != nil {
		return err
	}
	fmt.Printf("%d hosts, %d days, %d records: %s. To ask it, as README.md does:\n\n  export PATH=%s:\"$PATH\" TZ=UTC LC_ALL=C; cd %s\n",
		len(hosts), days, records, filepath.Join(dir, "store"), word(bin), word(dir))
	return nil
}

// word is a word of a shell.
func word(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// put moves what was made to its place, also to another filesystem, where it is copied first: an interrupt then leaves
// what was there before.
func put(ctx context.Context, work, dir string) (returnedErr error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	beside, err := os.MkdirTemp(filepath.Dir(dir), ".demo-")
	if err != nil {
		return err
	}
	defer func() { returnedErr = errors.Join(returnedErr, os.RemoveAll(beside)) }()
	whole := filepath.Join(beside, "whole")
	if out, err := exec.CommandContext(ctx, "mv", "-T", work, whole).CombinedOutput(); err != nil {
		return fmt.Errorf("mv: %w\n%s", err, out)
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Rename(whole, dir)
}

// build makes the logs and has a collector store them. It returns how many records that are.
func build(ctx context.Context, bin, dir string) (records int, err error) {
	if err := os.WriteFile(filepath.Join(dir, mark), nil, 0o600); err != nil {
		return 0, err
	}
	if err := os.Mkdir(filepath.Join(dir, "logs"), 0o700); err != nil {
		return 0, err
	}
	for name, log := range logs() {
		records += bytes.Count(log.Bytes(), []byte("\n"))
		if err := os.WriteFile(filepath.Join(dir, "logs", name+".log"), log.Bytes(), 0o600); err != nil {
			return 0, err
		}
	}
	key := filepath.Join(dir, "seal", "key")
	public, err := exec.CommandContext(ctx, filepath.Join(bin, "collector"), "seal", "init", "--key", key, "--name", "loghost").Output()
	if err != nil {
		return 0, fmt.Errorf("collector seal init: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "loghost.pub"), public, 0o600); err != nil {
		return 0, err
	}
	c, err := startCollector(ctx, bin, dir, key)
	if err != nil {
		return 0, err
	}
	for _, host := range hosts {
		if err := c.ship(ctx, host); err != nil {
			return 0, errors.Join(err, c.stop())
		}
	}
	return records, c.stop()
}

// collector is one that runs.
type collector struct {
	cmd      *exec.Cmd
	bin, dir string
	addr     string
	said     bytes.Buffer
	ended    chan error
}

// startCollector starts one and waits until it can be asked.
func startCollector(ctx context.Context, bin, dir, key string) (*collector, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &collector{bin: bin, dir: dir, addr: l.Addr().String(), ended: make(chan error, 1)}
	l.Close()
	store := filepath.Join(dir, "store")
	c.cmd = exec.Command(filepath.Join(bin, "collector"), "serve", "--store", store, "--listen", c.addr, "--http=", "--node", "loghost", "--seal-key", key)
	c.cmd.Stdout, c.cmd.Stderr = &c.said, &c.said
	// An interrupt at the terminal is for this program, which then stops it in order.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { c.ended <- c.cmd.Wait() }()
	for {
		if _, err := os.Stat(filepath.Join(store, "collector.sock")); err == nil {
			return c, nil
		}
		select {
		case err := <-c.ended:
			return nil, fmt.Errorf("collector serve: %w\n%s", err, c.said.Bytes())
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), c.stop())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ship has a forwarder send the log of a host.
func (c *collector) ship(ctx context.Context, host string) error {
	args := []string{"--source", filepath.Join(c.dir, "logs", host+".log"), "--node", host, "--remote", c.addr, "--spool", filepath.Join(c.dir, "spool"), "--http="}
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, "forwarder"), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("forwarder %v: %w\n%s", args, err, out)
	}
	return os.RemoveAll(filepath.Join(c.dir, "spool"))
}

// stop ends it in good order.
func (c *collector) stop() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := <-c.ended; err != nil {
		return fmt.Errorf("collector serve: %w\n%s", err, c.said.Bytes())
	}
	return nil
}
