"""The subnets that were chosen for the function and a new cache, and whether they will do."""

from collections.abc import Iterator, Sequence

from aws_cdk import Token
from aws_cdk import aws_ec2 as ec2

_LOOKUP_PLACEHOLDER_VPC = "vpc-12345"
"""What CDK calls a VPC while the app is synthesised for the first time, only to find out what to look up."""


class ChosenSubnets:
    """The subnets of a selection.

    Parameters
    ----------
    vpc : ec2.IVpc
        Their VPC.
    selection : ec2.SubnetSelection or None
        Which of its subnets. None: its private ones.

    Attributes
    ----------
    ids : list of str
        Their ids.
    pending : bool
        Whether the VPC is still to be looked up. So long, the ids are placeholders, and there may be none.
    """

    def __init__(self, vpc: ec2.IVpc, selection: ec2.SubnetSelection | None) -> None:
        self._vpc = vpc
        self._failure = ""
        selection = selection or ec2.SubnetSelection()
        if selection.subnets:
            # Asked through the VPC, subnets imported by id alone would fail for want of their zone.
            self._subnets = list(selection.subnets)
            self.pending = vpc.vpc_id == _LOOKUP_PLACEHOLDER_VPC
        else:
            self._subnets, self.pending = self._selected(selection)
        self.ids = [subnet.subnet_id for subnet in self._subnets]

    def _selected(self, selection: ec2.SubnetSelection) -> tuple[list[ec2.ISubnet], bool]:
        try:
            selected = self._vpc.select_subnets(
                availability_zones=selection.availability_zones,
                one_per_az=selection.one_per_az,
                subnet_filters=selection.subnet_filters,
                subnet_group_name=selection.subnet_group_name,
                subnet_type=selection.subnet_type,
            )
        except RuntimeError as error:  # the CDK's way to say that there are none of that kind
            self._failure = str(error).partition("\n")[0]
            return [], True
        return list(selected.subnets), bool(selected.is_pending_lookup)

    def problems(self, *, needs_two_zones: bool) -> Iterator[str]:
        """Say what is wrong with them, other than their number."""
        if self._failure:
            yield (
                f"subnets: this VPC has none of that kind; choose others, e.g. ec2.SubnetSelection(subnets=[…]). The "
                f"CDK says: {self._failure}"
            )
        if self._are_among(self._vpc.public_subnets):
            yield "subnets: are public, from where a function has no way to the internet; choose private ones"
        zones = {_zone_of(subnet) for subnet in self._subnets}
        if needs_two_zones and not self.pending and len(self.ids) > 1 and len(zones) == 1 and None not in zones:
            yield "subnets: are in one availability zone, and a new cache needs two; choose one subnet in each"

    @property
    def are_isolated(self) -> bool:
        """Whether they have no way out that the CDK sees."""
        return self._are_among(self._vpc.isolated_subnets)

    @property
    def have_route_tables(self) -> bool:
        """Whether their route tables are known, as far as anybody can say."""
        return self.pending or all(_route_table_of(subnet) is not None for subnet in self._subnets)

    def notes(self, *, to_lake: bool, endpoints: bool) -> Iterator[str]:
        """Remark what may be wrong with them, if entries go to CloudTrail Lake, and if endpoints are created."""
        if not self.are_isolated:
            return
        if not to_lake and not endpoints:
            yield (
                "subnets: are isolated. Without endpoints the function does not reach S3; network.endpoints creates "
                "those that it needs, if the VPC does not have them. See docs/network.md."
            )
        if to_lake:
            yield (
                "subnets: are isolated, and PutAuditEvents has no VPC endpoint. Without a way to the internet that CDK "
                "does not see, such as a transit gateway, nothing will be delivered; see docs/network.md."
            )

    def one_per_zone(self) -> list[str]:
        """Return the first id in each zone; all of those whose zone is not known."""
        first: dict[str, str] = {}
        for subnet, subnet_id in zip(self._subnets, self.ids, strict=True):
            first.setdefault(_zone_of(subnet) or subnet_id, subnet_id)
        return list(first.values())

    def _are_among(self, subnets: Sequence[ec2.ISubnet]) -> bool:
        return not self.pending and not {subnet.subnet_id for subnet in subnets}.isdisjoint(self.ids)


class UnknownSubnets(ChosenSubnets):
    """Stands for subnets that nobody can ask for, as what was given as a VPC, or as a selection, is none."""

    def __init__(self) -> None:
        self.ids, self.pending = [], True

    def problems(self, *, needs_two_zones: bool) -> Iterator[str]:
        """Say nothing."""
        return iter(())

    are_isolated, have_route_tables = False, True

    def notes(self, *, to_lake: bool, endpoints: bool) -> Iterator[str]:
        """Say nothing."""
        return iter(())


def _route_table_of(subnet: ec2.ISubnet) -> str | None:
    """Return the id of a subnet's route table; None where it is not known, as of one imported by its id alone."""
    try:
        return subnet.route_table.route_table_id or None
    except RuntimeError:
        return None


def _zone_of(subnet: ec2.ISubnet) -> str | None:
    """Return a subnet's zone; None where it is not known, as of one imported by its id alone."""
    try:
        zone = subnet.availability_zone
    except RuntimeError:
        return None
    # A zone out of a list of unknown length is the list.
    return None if Token.is_unresolved(zone) or Token.is_unresolved([zone]) else zone
