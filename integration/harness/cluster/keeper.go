package cluster

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	zookeeperJar = "/usr/share/java/zookeeper.jar"
	clientPort   = 2181
)

// Keeper is a ZooKeeper.
type Keeper struct {
	server
	id      int // counts from 1
	cluster *Cluster
}

func (c *Cluster) newKeeper(id int) *Keeper {
	k := &Keeper{id: id, cluster: c}
	k.Name = fmt.Sprintf("zookeeper-%d", id)
	k.Host = c.prefix + strconv.Itoa(100+id)
	k.dir = filepath.Join(c.Dir, k.Name)
	// Small and without much of a compiler: it has hardly anything to do.
	k.args = []string{
		"java", "-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Dzookeeper.admin.enableServer=false",
		"-cp", k.dir + ":" + zookeeperJar, "org.apache.zookeeper.server.quorum.QuorumPeerMain", filepath.Join(k.dir, "zoo.cfg"),
	}
	k.answers = func() bool { return k.Mode() != "" }
	return k
}

// prepare writes the keeper's files.
func (k *Keeper) prepare() error {
	data, err := folder(k.dir, "data")
	if err != nil {
		return err
	}
	var conf strings.Builder
	// A session lives 2 to 20 ticks without a sign of its client.
	// It waits for no disk: what ends a keeper here is a signal, behind which the kernel has all that it wrote.
	fmt.Fprintf(&conf, "forceSync=no\ntickTime=1000\ninitLimit=60\nsyncLimit=30\nmaxClientCnxns=0\n4lw.commands.whitelist=srvr\n")
	fmt.Fprintf(&conf, "dataDir=%s\nclientPort=%d\nclientPortAddress=%s\n", data, clientPort, k.Host)
	if all := k.cluster.Keepers; len(all) > 1 {
		for _, peer := range all {
			fmt.Fprintf(&conf, "server.%d=%s:2888:3888\n", peer.id, peer.Host)
		}
	}
	if err := k.write("zoo.cfg", conf.String()); err != nil {
		return err
	}
	if err := k.write("log4j.properties", "log4j.rootLogger=WARN, C\nlog4j.appender.C=org.apache.log4j.ConsoleAppender\n"+
		"log4j.appender.C.layout=org.apache.log4j.PatternLayout\nlog4j.appender.C.layout.ConversionPattern=%d{ISO8601} %-5p [%t] %m%n\n"); err != nil {
		return err
	}
	return k.write("data/myid", strconv.Itoa(k.id)+"\n")
}

// askTime is how long a keeper may take to say its mode: one that begins just then may never answer, and is asked again.
const askTime = 2 * time.Second

// Mode is leader, follower or standalone: a keeper that serves. It is empty for one that is down or has no quorum.
func (k *Keeper) Mode() string {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(k.Host, strconv.Itoa(clientPort)), time.Minute)
	if err != nil {
		return ""
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(askTime))
	if _, err := conn.Write([]byte("srvr")); err != nil {
		return ""
	}
	text, err := io.ReadAll(conn)
	if err != nil {
		return ""
	}
	_, mode, _ := strings.Cut(string(text), "\nMode: ")
	mode, _, _ = strings.Cut(mode, "\n")
	return mode
}
