package cluster

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	nativePort      = 9000
	securePort      = 9440
	httpPort        = 8123
	interserverPort = 9009
)

// Node is a ClickHouse server.
type Node struct {
	server
	Shard, Replica int    // from 1
	Native         string // HOST:PORT of the native protocol
	Secure         string // of the native protocol over TLS; empty without
	HTTP           string

	cluster *Cluster
	data    string // its data, which may be a mount
	log     string // the file of its messages; those that are warnings or worse stand in log.errors, too
	mounted bool
}

func (c *Cluster) newNode(shard, replica int) *Node {
	n := &Node{Shard: shard, Replica: replica, cluster: c}
	n.Name = fmt.Sprintf("clickhouse-%d-%d", shard, replica)
	n.Host = c.prefix + strconv.Itoa((shard-1)*c.Shape.Replicas+replica)
	n.dir = filepath.Join(c.Dir, n.Name)
	n.data = filepath.Join(n.dir, "data")
	n.log = filepath.Join(n.dir, "log")
	n.Native = net.JoinHostPort(n.Host, strconv.Itoa(nativePort))
	n.HTTP = net.JoinHostPort(n.Host, strconv.Itoa(httpPort))
	if c.Shape.CA != nil {
		n.Secure = net.JoinHostPort(n.Host, strconv.Itoa(securePort))
	}
	n.args = []string{"clickhouse-server", "--config-file=" + filepath.Join(n.dir, "config.xml")}
	n.answers = func() bool {
		_, err := n.Query("SELECT 1")
		return err == nil
	}
	return n
}

// prepare makes the node's folders, its disk and its configuration.
func (n *Node) prepare() error {
	if _, err := folder(n.data); err != nil {
		return err
	}
	if size := n.cluster.Shape.DiskMiB; size > 0 {
		if err := syscall.Mount("tmpfs", n.data, "tmpfs", 0, fmt.Sprintf("size=%dm", size)); err != nil {
			return fmt.Errorf("mount a disk for %s: %w", n.Name, err)
		}
		n.mounted = true
	}
	if err := n.write("users.xml", n.users()); err != nil {
		return err
	}
	return n.write("config.xml", n.config())
}

func (n *Node) unmount() error {
	if !n.mounted {
		return nil
	}
	if err := syscall.Unmount(n.data, 0); err != nil {
		return fmt.Errorf("unmount the disk of %s: %w", n.Name, err)
	}
	n.mounted = false
	return nil
}

// Query has the node answer by HTTP, whatever client the tests are about: rows as lines, columns between tabs.
// An error holds the server's words, with its code.
func (n *Node) Query(sql string) (string, error) { return n.ask(sql, nil) }

// ask is Query with settings.
func (n *Node) ask(sql string, settings map[string]string) (string, error) {
	words := url.Values{"user": {User}, "password": {Password}}
	for name, value := range settings {
		words.Set(name, value)
	}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequest(http.MethodPost, "http://"+n.HTTP+"/?"+words.Encode(), strings.NewReader(sql))
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", n.Name, strings.TrimSpace(string(text)))
	}
	return strings.TrimSuffix(string(text), "\n"), nil
}

// Log is the last part of what the node said of itself that was a warning or worse, and of what it wrote beside its log.
func (n *Node) Log() string {
	text, err := os.ReadFile(n.log + ".errors")
	if err != nil {
		text = []byte(err.Error() + "\n")
	}
	return string(text[max(0, len(text)-logTail):]) + n.server.Log()
}

// logTail is how many bytes of a log are shown.
const logTail = 16 << 10

// Wipe takes all data from a node that does not run, as a new disk does. The tables are gone, too; ZooKeeper still knows the
// replica, so they cannot be created again: see CopyTables.
func (n *Node) Wipe() error {
	if n.Running() {
		return fmt.Errorf("%s runs: kill it first", n.Name)
	}
	entries, err := os.ReadDir(n.data)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(n.data, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// CopyTables gives a node that was wiped the tables of another replica of its shard, as ClickHouse's manual has it for a lost
// disk: it fetches their data by itself once it is started.
func (n *Node) CopyTables(from *Node) error {
	const tables = "metadata"
	return os.CopyFS(filepath.Join(n.data, tables), os.DirFS(filepath.Join(from.data, tables)))
}

// filler is the file that fills a node's disk.
func (n *Node) filler() string { return filepath.Join(n.data, "filler") }

// FillDisk leaves no byte free on the node's disk, which Shape.DiskMiB has made.
func (n *Node) FillDisk() (err error) {
	if !n.mounted {
		return errors.New("the node's disk is the machine's: set Shape.DiskMiB")
	}
	f, err := os.OpenFile(n.filler(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			return err
		}
	}
	return nil
}

// FreeDisk undoes FillDisk.
func (n *Node) FreeDisk() error {
	if err := os.Remove(n.filler()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// WaitFor polls the node until a query has this answer, errors included, at most as long as a server may take.
func (n *Node) WaitFor(sql, want string) error {
	var got string
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if got, err = n.Query(sql); err == nil && got == want {
			return nil
		}
	}
	return fmt.Errorf("%s: %s is %q (%w), not %q, after %v", n.Name, sql, got, err, want, patience)
}
