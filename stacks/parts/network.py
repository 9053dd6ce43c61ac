"""The ways that the function's security group opens, and the endpoints that a VPC may get for it."""

import ipaddress
from collections.abc import Sequence
from typing import TypeVar, cast

from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from ..settings.checks import ServiceUrl
from ..settings.groups import NetworkOptions

_HTTPS = 443

_Service = TypeVar("_Service", ec2.IInterfaceVpcEndpointService, ec2.IGatewayVpcEndpointService)


class CollectorNetwork(Construct):
    """The function's security group with its rules, and endpoints where they are wanted.

    Parameters
    ----------
    scope, construct_id
        As for every construct.
    vpc : ec2.IVpc
        Where the function runs.
    subnets : ec2.SubnetSelection or None
        The function's subnets.
    admin_api : ServiceUrl
        Kong's Admin API.
    options : NetworkOptions
        Where Kong is, and which endpoints to create.
    security_group : ec2.ISecurityGroup or str or None
        An existing group, or the physical name of a new one. None: CloudFormation chooses the name.
    interface_services, gateway_services : sequence
        Endpoints to create besides those of the options.

    Attributes
    ----------
    security_group : ec2.ISecurityGroup
        The function's security group.
    interface_endpoints : list of ec2.InterfaceVpcEndpoint
        The interface endpoints created.
    endpoint_security_group : ec2.SecurityGroup or None
        Their security group, which admits the function only.
    gateway_endpoints : list of ec2.GatewayVpcEndpoint
        The gateway endpoints created.
    needs_ipv6 : bool
        Whether an IPv6 address is to be reached.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        vpc: ec2.IVpc,
        subnets: ec2.SubnetSelection | None,
        admin_api: ServiceUrl,
        options: NetworkOptions,
        security_group: ec2.ISecurityGroup | str | None,
        interface_services: Sequence[ec2.IInterfaceVpcEndpointService] = (),
        gateway_services: Sequence[ec2.IGatewayVpcEndpointService] = (),
    ) -> None:
        super().__init__(scope, construct_id)
        if security_group is None or isinstance(security_group, str):
            security_group = ec2.SecurityGroup(
                self,
                "SecurityGroup",
                vpc=vpc,
                security_group_name=security_group,
                description="Collector of the Kong audit trail: reaches its cache, the Admin API of Kong and HTTPS",
                allow_all_outbound=False,
            )
        self.security_group: ec2.ISecurityGroup = security_group
        peers = options.kong_peers or [_address_of(admin_api.host)]
        self.needs_ipv6 = any(_is_ipv6(peer) for peer in [*peers, *options.https_peers])
        # One of the two ports is known: the construct has seen to that.
        self._open_the_ways(peers, ec2.Port.tcp(options.kong_port or admin_api.port or _HTTPS), "Admin API of Kong")
        # Addresses of AWS's endpoints are not known, so unless somebody says more, the port alone is narrowed down.
        https_peers = options.https_peers or [ec2.Peer.any_ipv4()]
        self._open_the_ways(https_peers, ec2.Port.tcp(_HTTPS), "AWS APIs over HTTPS")
        self.endpoint_security_group: ec2.SecurityGroup | None = None
        self.interface_endpoints = self._interface_endpoints(
            vpc, subnets, _different([*interface_services, *options.interface_endpoints])
        )
        self.gateway_endpoints = [
            ec2.GatewayVpcEndpoint(
                self, f"Gateway{number}", vpc=vpc, service=service, subnets=[subnets or ec2.SubnetSelection()]
            )
            for number, service in enumerate(_different([*gateway_services, *options.gateway_endpoints]), 1)
        ]

    def _open_the_ways(self, peers: Sequence[ec2.IPeer], port: ec2.Port, what: str) -> None:
        """Let out to some peers. Names are resolved by the VPC's own resolver, which no security group governs."""
        for peer in peers:
            if hasattr(peer, "security_group_id"):
                # Both sides: what a security group guards has to let the function in as well.
                self.security_group.connections.allow_to(cast(ec2.ISecurityGroup, peer), port, what)
            else:
                self.security_group.add_egress_rule(peer, port, what)

    def _interface_endpoints(
        self,
        vpc: ec2.IVpc,
        subnets: ec2.SubnetSelection | None,
        services: Sequence[ec2.IInterfaceVpcEndpointService],
    ) -> list[ec2.InterfaceVpcEndpoint]:
        if not services:
            return []
        self.endpoint_security_group = group = ec2.SecurityGroup(
            self,
            "EndpointSecurityGroup",
            vpc=vpc,
            description="Endpoints for the collector of the Kong audit trail: reached by it only, reach nothing",
            allow_all_outbound=False,
        )
        group.add_ingress_rule(
            ec2.Peer.security_group_id(self.security_group.security_group_id), ec2.Port.tcp(_HTTPS), "The collector"
        )
        return [
            ec2.InterfaceVpcEndpoint(
                self,
                f"Interface{number}",
                vpc=vpc,
                service=service,
                subnets=subnets,
                security_groups=[group],
                open=False,
                private_dns_enabled=True,
            )
            for number, service in enumerate(services, 1)
        ]


def _different(services: Sequence[_Service]) -> list[_Service]:
    """Return each service once: a VPC has one endpoint with private DNS for it."""
    return list({service.name: service for service in services}.values())


def _is_ipv6(peer: ec2.IPeer) -> bool:
    try:
        return ipaddress.ip_network(peer.unique_id).version == 6
    except ValueError:
        return False


def _address_of(host: str) -> ec2.IPeer:
    """Return the address in a URL as a peer; any IPv4 address where it is a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return ec2.Peer.any_ipv4()
    network = str(ipaddress.ip_network(address))
    return ec2.Peer.ipv4(network) if address.version == 4 else ec2.Peer.ipv6(network)
