"""Service definitions of the packages that the embedded runtime serves, and defaults that the type store leaves out.

Facts of the ROS 2 interface packages (rcl_interfaces, lifecycle_msgs, action_msgs, std_srvs, moveit_msgs); the type
store carries messages only, and none of moveit_msgs.
"""

from __future__ import annotations

SERVICES = {
    "action_msgs/srv/CancelGoal": (
        "GoalInfo goal_info\n---\nint8 ERROR_NONE=0\nint8 ERROR_REJECTED=1\nint8 ERROR_UNKNOWN_GOAL_ID=2\n"
        "int8 ERROR_GOAL_TERMINATED=3\nint8 return_code\nGoalInfo[] goals_canceling"
    ),
    "rcl_interfaces/srv/GetParameters": "string[] names\n---\nParameterValue[] values",
    "rcl_interfaces/srv/GetParameterTypes": "string[] names\n---\nuint8[] types",
    "rcl_interfaces/srv/SetParameters": "Parameter[] parameters\n---\nSetParametersResult[] results",
    "rcl_interfaces/srv/SetParametersAtomically": "Parameter[] parameters\n---\nSetParametersResult result",
    "rcl_interfaces/srv/DescribeParameters": "string[] names\n---\nParameterDescriptor[] descriptors",
    "rcl_interfaces/srv/ListParameters": (
        "uint64 DEPTH_RECURSIVE=0\nstring[] prefixes\nuint64 depth\n---\nListParametersResult result"
    ),
    "lifecycle_msgs/srv/ChangeState": "Transition transition\n---\nbool success",
    "lifecycle_msgs/srv/GetState": "---\nState current_state",
    "lifecycle_msgs/srv/GetAvailableStates": "---\nState[] available_states",
    "lifecycle_msgs/srv/GetAvailableTransitions": "---\nTransitionDescription[] available_transitions",
    "moveit_msgs/srv/ServoCommandType": (
        "int8 JOINT_JOG=0\nint8 TWIST=1\nint8 POSE=2\nint8 command_type\n---\nbool success"
    ),
    "std_srvs/srv/Empty": "---\n",
    "std_srvs/srv/Trigger": "---\nbool success\nstring message",
    "std_srvs/srv/SetBool": "bool data\n---\nbool success\nstring message",
}

MESSAGES = {
    "moveit_msgs/msg/ServoStatus": (
        "int8 code\nstring message\nint8 INVALID=-1\nint8 NO_WARNING=0\n"
        "int8 DECELERATE_FOR_APPROACHING_SINGULARITY=1\nint8 HALT_FOR_SINGULARITY=2\n"
        "int8 DECELERATE_FOR_LEAVING_SINGULARITY=3\nint8 DECELERATE_FOR_COLLISION=4\n"
        "int8 HALT_FOR_COLLISION=5\nint8 JOINT_BOUND=6"
    ),
}

DEFAULTS = {
    "geometry_msgs/msg/Quaternion": {"w": 1.0},
    "sensor_msgs/msg/NavSatStatus": {"status": -2},
}

# What rosidl makes of an action beside goal, result and feedback; {0} is "package/action/Name".
OF_AN_ACTION = {
    "SendGoal_Request": "unique_identifier_msgs/UUID goal_id\n{0}_Goal goal",
    "SendGoal_Response": "bool accepted\nbuiltin_interfaces/Time stamp",
    "GetResult_Request": "unique_identifier_msgs/UUID goal_id",
    "GetResult_Response": "int8 status\n{0}_Result result",
    "FeedbackMessage": "unique_identifier_msgs/UUID goal_id\n{0}_Feedback feedback",
}
