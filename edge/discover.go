package edge

import (
	"context"
	"net"

	"github.com/tributary-edge/tributary/edge/mdns"
)

// The names of services that IANA has for MQTT, without and with TLS. WebSocket has
// none.
const (
	mqttService       = "_mqtt._tcp"
	secureMQTTService = "_secure-mqtt._tcp"
)

// announceDoor tells the local network where devices can connect, if the
// configuration says so. That it cannot is no reason not to serve them.
func (n *Node) announceDoor(ctx context.Context) error {
	if !n.cfg.MQTT.MDNS {
		return nil
	}
	select {
	case <-n.door.Ready():
	case <-ctx.Done():
		return nil
	}
	err := mdns.Announce(ctx, &mdns.Options{
		Name: n.cfg.Node.Name, ID: n.id.Node.String(), Services: n.services(), Logger: n.logger,
	})
	if err != nil {
		n.logger.Warn("this node cannot be announced on the local network (mdns); devices that know its address can connect. Is the port taken? Free it and restart", "error", err)
	}
	return nil
}

// services returns what devices can connect to, over TCP and TLS.
func (n *Node) services() (all []mdns.Service) {
	plain, secure := len(n.cfg.MQTT.Listen), len(n.cfg.MQTT.ListenTLS)
	for i, a := range n.door.Addrs()[:plain+secure] { // in the order of the configuration
		kind := mqttService
		if i >= plain {
			kind = secureMQTTService
		}
		if tcp, ok := a.(*net.TCPAddr); ok {
			all = append(all, mdns.Service{Type: kind, Address: tcp.AddrPort()})
		}
	}
	return all
}
